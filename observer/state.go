// Licensed to Apache Software Foundation (ASF) under one or more contributor
// license agreements. See the NOTICE file distributed with
// this work for additional information regarding copyright
// ownership. Apache Software Foundation (ASF) licenses this file to you under
// the Apache License, Version 2.0 (the "License"); you may
// not use this file except in compliance with the License.
// You may obtain a copy of the License at
//
//     http://www.apache.org/licenses/LICENSE-2.0
//
// Unless required by applicable law or agreed to in writing,
// software distributed under the License is distributed on an
// "AS IS" BASIS, WITHOUT WARRANTIES OR CONDITIONS OF ANY
// KIND, either express or implied.  See the License for the
// specific language governing permissions and limitations
// under the License.

package observer

// StateMetrics describes the metrics of the observer's own state. Health.Each has their values, except for
// CollectSuccess, CollectDuration and LabelsDiffer. Their labels have no values. The runs that the kernel skipped are
// in a metric that the modules have too.
func StateMetrics() []Metric {
	labels := func(names ...string) []Label {
		var all []Label
		for _, name := range names {
			all = append(all, Label{Name: name})
		}
		return all
	}
	return []Metric{
		{Name: "ebpf_module_up", Kind: Gauge, Labels: labels("module"), Help: "1 if the module counts, 0 if it is down, disabled or shed."},
		{Name: "ebpf_shed_level", Kind: Gauge, Labels: labels("module"), Help: "How far the module is shed to keep its budget: 0 not at all, 3 means that it is off."},
		{
			Name: "ebpf_overhead_seconds_total", Kind: Counter, Labels: labels("module"),
			Help: "CPU time that the module has cost this process, by the cost of an event as measured at the start.",
		},
		{Name: "ebpf_map_memory_bytes", Kind: Gauge, Labels: labels("module"), Help: "Memory that the kernel holds for the module."},
		{
			Name: eventsLost, Kind: Counter, Labels: labels("module", "reason"),
			Help: "Events that were counted without their duration, and runs of a program that the kernel skipped (missed).",
		},
		{
			Name: MetricVerified, Kind: Gauge, Labels: labels("module", "metric"),
			Help: "1 if the metric has counted known work exactly, on this kernel, when the module was opened.",
		},
		{Name: "ebpf_probe_info", Kind: Gauge, Labels: labels("module", "hook", "attach"), Help: "How each hook is attached. Always 1."},
		{Name: CollectSuccess, Kind: Gauge, Help: "1 if the last collection read all modules, 0 if some counters are older."},
		{Name: CollectDuration, Kind: Gauge, Help: "Time that the last collection took."},
		{
			Name: LabelsDiffer, Kind: Gauge, Labels: labels("metric"),
			Help: "1 if the database has the metric's measure with other labels, so that the metric is not stored.",
		},
	}
}

// Metrics of the observer's own state that the collector or the store of the metrics handles.
const (
	MetricVerified  = "ebpf_metric_verified"
	LabelsDiffer    = "ebpf_labels_differ"
	CollectSuccess  = "ebpf_collect_success"
	CollectDuration = "ebpf_collect_duration_seconds"
)

// Each calls f for each series of the observer's own state, in the unit of the metric, with label values in the order
// of StateMetrics. It leaves out the memory of a module that is down, hooks that are not attached, and counters that
// have counted nothing.
func (h Health) Each(f func(metric string, value float64, labelValues ...string)) {
	for _, m := range h.Modules {
		f("ebpf_module_up", number(m.Up), m.Name)
		if m.Up || m.Disabled || m.Level > LevelFull {
			f("ebpf_map_memory_bytes", float64(m.MapMemory), m.Name)
			f("ebpf_shed_level", float64(m.Level), m.Name)
		}
		if m.Overhead > 0 {
			f("ebpf_overhead_seconds_total", m.Overhead.Seconds(), m.Name)
		}
		if m.Missed > 0 {
			f(eventsLost, float64(m.Missed), m.Name, "missed")
		}
		for _, metric := range m.Metrics {
			f(MetricVerified, number(metric.Verified), m.Name, metric.Name)
		}
		for _, hook := range m.Plan {
			if hook.Attachment != "" && m.attached(hook.Name) {
				f("ebpf_probe_info", 1, m.Name, hook.Name, string(hook.Attachment))
			}
		}
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
