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

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
)

// namespace is the prefix of every metric's name.
const namespace = "ebpf"

// countersMap is the map that holds a module's counters.
const countersMap = "metrics"

// maxSeries bounds the series of one metric: more means that a label should not be one.
const maxSeries = 1024

// maxWords bounds what one module counts, in 8-byte words of one CPU's entry. Each may become a series where it is stored.
const maxWords = 32768

// maxLabels bounds the labels of a metric.
const maxLabels = 8

// maxName bounds the length of a name.
const maxName = 64

// oldestLinux is the oldest supported Linux.
const oldestLinux = "5.10"

// nanosecond is the scale of what is counted in nanoseconds.
const nanosecond = 1e-9

// wordSize is the size in bytes of each counter.
const wordSize = 8

// Kind is the kind of a metric.
type Kind uint8

// The kinds of metrics.
const (
	// Counter only grows.
	Counter Kind = iota
	// Gauge may fall.
	Gauge
	// Histogram is a distribution, with the sum of what was observed.
	Histogram
)

// String returns the kind's name, as in Prometheus.
func (k Kind) String() string {
	return [...]string{"counter", "gauge", "histogram"}[k]
}

// Metric describes one metric of one module.
type Metric struct {
	// Name is the full name: ebpf_<module>_<metric>, or ebpf_<metric> for one that all modules share.
	Name string
	// Module that feeds the metric.
	Module string
	// Help says what is counted and what is not.
	Help string
	// Hooks that feed the metric, any of them.
	Hooks []string
	// Labels span the series: the last one varies fastest.
	Labels []Label
	// Bounds are a histogram's finite upper bounds, inclusive, in the metric's unit (seconds, bytes).
	Bounds []float64
	// Since is the first Linux that can feed the metric.
	Since string
	// PartOf are the metrics that this one breaks down by work: in every snapshot, the sum over its series equals the
	// sum over theirs. Of a histogram, a metric of time breaks down the total time, any other metric the count. It is
	// nil for a metric that is not broken down by work.
	PartOf []string
	// ByFile is the name of the metric that has the same broken down by file, in Snapshot.Files. It is empty if there is
	// none.
	ByFile string
	Kind   Kind
	// Verifiable reports whether verification knows what the metric must have grown by.
	Verifiable bool

	verify   []expectation
	cost     string     // the operation whose cost is that of one count, or empty
	offset   int        // of the first series, in words
	values   [][]string // the label values of each series
	scale    float64    // turns a counted value into the unit
	width    int        // of a series, in words
	iterated bool       // fed by iterators alone
	parts    *parts     // of a metric that is broken down by work; nil for the others
	byFile   byFile
}

// byFile is what a module declares about the metric by file that goes with a metric by work.
type byFile struct {
	help     string
	withWork bool
}

// parts describe where the programs count a metric that is broken down by work. A snapshot has a different order: by
// work, not by the numbers that the programs assign to works.
type parts struct {
	works  []Work // in the order of a snapshot
	from   int    // the first word of number 0
	stride int    // from one number to the next, in words
}

// outer returns the number of labels that identify the work. They come first.
func (m *Metric) outer() int {
	if m.parts == nil {
		return 0
	}
	return len(workLabels)
}

// inner returns the number of series per work, or of all series if the metric is not broken down by work.
func (m *Metric) inner() int {
	n := 1
	for _, l := range m.Labels[m.outer():] {
		n *= len(l.Values)
	}
	return n
}

// Label is a label and all its values.
type Label struct {
	Name   string
	Values []string
}

// expectation is one condition of verification: the series of a metric with the labels have grown, together, by the sum
// of the quantities.
type expectation struct {
	// labels are name and value, none for all series.
	labels map[string]string
	// quantities of the known work.
	quantities []string
}

// matches reports whether it is for a series with these labels.
func (e *expectation) matches(names, values []string) bool {
	for i, name := range names {
		if want, ok := e.labels[name]; ok && want != values[i] {
			return false
		}
	}
	return true
}

// series returns how many series the metric has.
func (m *Metric) series() int {
	if m.parts == nil {
		return m.inner()
	}
	return len(m.parts.works) * m.inner()
}

// Units that have a meaning beyond their name.
const (
	unitSeconds = "seconds"
	unitBytes   = "bytes"
)

// Unit returns seconds, bytes or pages, from the type or else from the end of the name. It is empty for a plain number.
func (m *Metric) Unit() string {
	switch {
	case m.scale == nanosecond:
		return unitSeconds
	case m.Kind == Histogram:
		// Distributions are of times or sizes.
		return unitBytes
	}
	name := strings.TrimSuffix(m.Name, "_total")
	for _, unit := range []string{unitSeconds, unitBytes, "pages"} {
		if strings.HasSuffix(name, "_"+unit) {
			return unit
		}
	}
	return ""
}

// LabelNames returns the names of the labels.
func (m *Metric) LabelNames() []string {
	names := make([]string, len(m.Labels))
	for i, l := range m.Labels {
		names[i] = l.Name
	}
	return names
}

// labelValues returns the label values of series i, in the order of Labels.
func (m *Metric) labelValues(i int) []string {
	values := make([]string, len(m.Labels))
	if m.parts != nil {
		work := m.parts.works[i/m.inner()]
		values[0], values[1] = work.Name, work.Catalog
	}
	copy(values[m.outer():], valuesAt(m.Labels[m.outer():], i%m.inner()))
	return values
}

// valuesAt returns the values of labels in series i of those that they span.
func valuesAt(labels []Label, i int) []string {
	values := make([]string, len(labels))
	for j, l := range slices.Backward(labels) {
		values[j] = l.Values[i%len(l.Values)]
		i /= len(l.Values)
	}
	return values
}

// errSchema returns an error about a module's description of a metric.
func errSchema(member, format string, args ...any) error {
	return fmt.Errorf("%w: metric %q: %w", kprobe.ErrInvalidModule, member, fmt.Errorf(format, args...))
}

var (
	validName  = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	validValue = regexp.MustCompile(`^[a-z0-9_]+$`)
)

// takenLabels are added by Prometheus to a histogram, or by servers to all that they export.
var takenLabels = [...]string{"le", "quantile", "module", "node_type", "node_id", "grpc_address", "http_address"}

// eventsLost is the one metric that all modules share.
const eventsLost = namespace + "_events_lost_total"

// exported returns the names under which a metric is exported: a histogram has four, one that is counted by file two.
func (m *Metric) exported() []string {
	switch {
	case m.Kind == Histogram:
		return []string{m.Name, m.Name + "_bucket", m.Name + "_sum", m.Name + "_count"}
	case m.ByFile != "":
		return []string{m.Name, m.ByFile}
	default:
		return []string{m.Name}
	}
}

// claims are the names of metrics that are taken, and by which module.
type claims map[string]string

// own is the owner of StateMetrics. No module may have one of them, except for ebpf_events_lost_total, which is shared.
const own = "the observer"

func newClaims() claims {
	c := make(claims)
	for _, m := range StateMetrics() {
		c[m.Name] = own
	}
	return c
}

// add claims the names of a module's metrics, all or none; the error names one that is taken.
func (c claims) add(module string, metrics []Metric) error {
	names := make(claims)
	for i := range metrics {
		if metrics[i].Name == eventsLost {
			continue
		}
		for _, name := range metrics[i].exported() {
			owner, taken := c[name]
			if !taken {
				owner, taken = names[name]
			}
			if taken {
				return fmt.Errorf("%w: metric %q already belongs to %s", kprobe.ErrInvalidModule, name, owner)
			}
			names[name] = "module " + module
		}
	}
	maps.Copy(c, names)
	return nil
}

// entry describes one CPU's entry of a module's counters.
type entry struct {
	metrics []Metric // with offsets from the module's own first word
	words   int      // of the whole entry
	whole   int      // of what precedes the counters by work
	updates int      // the index of struct updates, or -1 if nothing is counted by work
	byFile  bool     // what is counted by work is counted by file too

	receipts []Metric // the fields of receipts, without labels
}

// describe reads what a module declares.
func describe(module string, spec *ebpf.CollectionSpec) (*entry, error) {
	if !validName.MatchString(module) || len(module) > maxName {
		return nil, fmt.Errorf("%w: module name %q must be lower-case letters, digits and underscores, at most %d", kprobe.ErrInvalidModule, module, maxName)
	}
	if spec.Types == nil {
		return nil, fmt.Errorf("%w: no BTF in the object: compile it with -g", kprobe.ErrInvalidModule)
	}
	m := spec.Maps[countersMap]
	if m == nil {
		return nil, fmt.Errorf("%w: no map %q", kprobe.ErrInvalidModule, countersMap)
	}
	if m.Type != ebpf.Array || m.Flags&mmapable == 0 || m.ValueSize%wordSize != 0 {
		return nil, fmt.Errorf("%w: map %q is not a memory-mappable array of 8-byte words", kprobe.ErrInvalidModule, countersMap)
	}
	if n := m.ValueSize / wordSize; n > maxWords {
		return nil, fmt.Errorf("%w: %d words to count into, at most %d are allowed", kprobe.ErrInvalidModule, n, maxWords)
	}
	layout, ok := btf.UnderlyingType(m.Value).(*btf.Struct)
	if !ok {
		return nil, fmt.Errorf("%w: the value of map %q is not a struct", kprobe.ErrInvalidModule, countersMap)
	}
	e := &entry{words: int(m.ValueSize / wordSize), updates: -1}
	e.whole = e.words
	for _, member := range layout.Members {
		if err := e.describe(module, spec.Types, member); err != nil {
			return nil, err
		}
	}
	if len(e.metrics) == 0 {
		return nil, fmt.Errorf("%w: no metric", kprobe.ErrInvalidModule)
	}
	return e, newClaims().add(module, e.metrics)
}

// describe reads one member.
func (e *entry) describe(module string, types *btf.Spec, member btf.Member) error {
	switch {
	case slices.Equal(member.Tags, []string{"updates"}):
		e.updates = int(member.Offset.Bytes() / wordSize)
		return nil
	case slices.Equal(member.Tags, []string{"by:work"}):
		return e.describeParts(module, types, member, workNumbers)
	case slices.Equal(member.Tags, []string{"by:work,file"}):
		e.byFile = true
		return e.describeParts(module, types, member, cells)
	case slices.Equal(member.Tags, []string{"by:receipt"}):
		return e.describeReceipts(module, types, member)
	case e.updates >= 0:
		return errSchema(member.Name, "declare BY_WORK and ON_RECEIPTS last")
	}
	metric, err := describeMember(module, types, member)
	if err != nil {
		return err
	}
	if metric.PartOf != nil || metric.ByFile != "" {
		return errSchema(member.Name, "PART_OF and BY_FILE are only for metrics that are counted by work")
	}
	if metric.offset+metric.series()*metric.width > e.words {
		return errSchema(member.Name, "it lies beyond the map's value")
	}
	e.metrics = append(e.metrics, metric)
	return nil
}

// describeParts reads the metrics that are counted by work.
func (e *entry) describeParts(module string, types *btf.Spec, member btf.Member, elements int) error {
	if e.whole != e.words {
		return errSchema(member.Name, "declare it once, with BY_WORK")
	}
	parts, err := e.describeDivision(module, types, member, elements)
	if err != nil {
		return err
	}
	e.whole = e.updates
	for _, metric := range parts {
		name := strings.TrimPrefix(metric.Name, namespace+"_"+module+"_")
		if err = e.checkWhole(&metric); err != nil {
			return errSchema(name, "%w", err)
		}
		if slices.ContainsFunc(metric.Labels, func(l Label) bool { return slices.Contains(workLabels[:], l.Name) }) {
			return errSchema(name, "the labels %s are reserved for the work", strings.Join(workLabels[:], " and "))
		}
		if metric.ByFile != "" {
			if err = e.checkByFile(&metric); err != nil {
				return errSchema(name, "%w", err)
			}
		}
		metric.Labels = slices.Concat(make([]Label, len(workLabels)), metric.Labels)
		e.metrics = append(e.metrics, metric)
	}
	return nil
}

// checkByFile checks a metric by work that is counted by file too.
func (e *entry) checkByFile(metric *Metric) error {
	switch {
	case !e.byFile:
		return errors.New("BY_FILE requires BY_WORK_AND_FILE")
	case metric.ByFile == metric.Name:
		return errors.New("BY_FILE requires a name that begins with attributed_")
	case metric.Kind != Counter:
		return errors.New("only counters are counted by file")
	case slices.ContainsFunc(metric.Labels, func(l Label) bool { return slices.Contains(fileLabels[:], l.Name) }):
		return fmt.Errorf("the labels %s are reserved for the file", strings.Join(fileLabels[:], ", "))
	}
	return nil
}

// describeReceipts reads the fields of receipts.
func (e *entry) describeReceipts(module string, types *btf.Spec, member btf.Member) error {
	if e.receipts != nil {
		return errSchema(member.Name, "declare it once, with ON_RECEIPTS")
	}
	fields, err := e.describeDivision(module, types, member, receiptSlots)
	if err != nil {
		return err
	}
	for i := range fields {
		field := &fields[i]
		field.Name = strings.TrimPrefix(field.Name, namespace+"_")
		if field.Kind != Counter || len(field.Labels) > 0 || len(field.verify) > 0 || len(field.PartOf) > 0 || field.ByFile != "" {
			return errSchema(field.Name, "on a receipt are counter_t and counter_ns_t, with HELP and HOOKS")
		}
	}
	e.receipts = fields
	return nil
}

// describeDivision reads an array of a struct, of which programs count in the element that an event belongs to.
func (e *entry) describeDivision(module string, types *btf.Spec, member btf.Member, elements int) ([]Metric, error) {
	array, _ := member.Type.(*btf.Array)
	if array == nil || int(array.Nelems) != elements || e.updates < 0 {
		return nil, errSchema(member.Name, "declare it with BY_WORK, or after that with ON_RECEIPTS")
	}
	of, ok := btf.UnderlyingType(array.Type).(*btf.Struct)
	if !ok || of.Size%wordSize != 0 {
		return nil, errSchema(member.Name, "it requires a struct of metrics")
	}
	from, stride := int(member.Offset.Bytes()/wordSize), int(of.Size/wordSize)
	if e.updates >= from || from+stride*elements > e.words {
		return nil, errSchema(member.Name, "it lies beyond the map's value")
	}
	var metrics []Metric
	for _, part := range of.Members {
		metric, err := describeMember(module, types, part)
		if err != nil {
			return nil, err
		}
		if metric.offset+metric.series()*metric.width > stride {
			return nil, errSchema(part.Name, "it lies beyond its struct")
		}
		metric.parts = &parts{from: from + metric.offset, stride: stride}
		metrics = append(metrics, metric)
	}
	return metrics, nil
}

// checkWhole looks up the metrics that PART_OF names, and makes them the expected value in verification.
func (e *entry) checkWhole(metric *Metric) error {
	if len(metric.PartOf) == 0 || len(metric.verify) > 0 {
		return errors.New("a metric that is counted by work must have PART_OF, and must not have VERIFY")
	}
	var all expectation
	for _, name := range metric.PartOf {
		i := slices.IndexFunc(e.metrics, func(m Metric) bool { return m.Name == name && m.parts == nil })
		if i < 0 || e.metrics[i].scale != metric.scale && e.metrics[i].Kind != Histogram {
			return fmt.Errorf("PART_OF: there is no metric %s of the same unit", name)
		}
		all.quantities = append(all.quantities, metric.grown(name))
	}
	metric.verify, metric.Verifiable = []expectation{all}, true
	return nil
}

// grown returns the name of the quantity that a metric of PartOf has grown by, over all series: time if m is a metric
// of time, otherwise a count.
func (m *Metric) grown(whole string) string {
	if m.scale == nanosecond {
		return whole + "_ns"
	}
	return whole
}

// metricsBy returns the metrics of a snapshot that has these works, those that are broken down by file, and the number of
// its words.
func (e *entry) metricsBy(by *Works) (metrics []Metric, files []fileMetric, words int) {
	works, words := by.all(), e.whole
	metrics = slices.Clone(e.metrics)
	for i := range metrics {
		m := &metrics[i]
		if m.parts != nil {
			parts := *m.parts
			parts.works = works
			m.parts = &parts
			m.Labels = slices.Concat(labelsOf(works), m.Labels[len(workLabels):])
			m.offset = words
			words += m.series() * m.width
		}
		for j := range m.series() {
			m.values = append(m.values, m.labelValues(j))
		}
	}
	if by == nil || by.Files == nil {
		return metrics, nil, words
	}
	for i := range metrics {
		if metrics[i].ByFile != "" {
			f := byFileOf(&metrics[i])
			f.offset = words
			words += f.places() * f.inner * f.width
			files = append(files, f)
		}
	}
	return metrics, files, words
}

// mmapable is BPF_F_MMAPABLE.
const mmapable = 1 << 10

func describeMember(module string, types *btf.Spec, member btf.Member) (Metric, error) {
	metric := Metric{
		Name: namespace + "_" + module + "_" + member.Name, Module: module, scale: 1, Since: oldestLinux,
		offset: int(member.Offset.Bytes() / wordSize),
	}
	if !validName.MatchString(member.Name) || len(member.Name) > maxName {
		return metric, errSchema(member.Name, "its name must be lower-case letters, digits and underscores, at most %d", maxName)
	}
	var labels, verify string
	for _, tag := range member.Tags {
		key, value, _ := strings.Cut(tag, ":")
		switch key {
		case "help":
			metric.Help = value
		case "hooks":
			metric.Hooks = strings.Split(value, ",")
		case "labels":
			labels = value
		case "since":
			metric.Since = value
		case "verify":
			verify = value
		case "cost":
			if _, ok := assumed[value]; !ok {
				return metric, errSchema(member.Name, "COST(%q) is unknown (known: %s)", value, strings.Join(slices.Sorted(maps.Keys(assumed)), ", "))
			}
			metric.cost = value
		case "file", "file_and_work":
			metric.ByFile = strings.Replace(metric.Name, "_attributed_", "_file_", 1)
			metric.byFile = byFile{help: value, withWork: key == "file_and_work"}
		case "part_of":
			for name := range strings.SplitSeq(value, "+") {
				metric.PartOf = append(metric.PartOf, namespace+"_"+module+"_"+strings.TrimSpace(name))
			}
		case "common":
			metric.Name = namespace + "_" + member.Name
			metric.Labels = []Label{{Name: "module", Values: []string{module}}}
		default:
			return metric, errSchema(member.Name, "unknown tag %q", tag)
		}
	}
	if metric.Help == "" || metric.ByFile != "" && metric.byFile.help == "" {
		return metric, errSchema(member.Name, "no HELP")
	}
	element, sizes := elementOf(member.Type)
	declared, err := describeLabels(types, labels, sizes)
	if err != nil {
		return metric, errSchema(member.Name, "%w", err)
	}
	series := 1
	for _, size := range sizes {
		if series *= size; series > maxSeries {
			return metric, errSchema(member.Name, "its labels have more than %d series", maxSeries)
		}
	}
	metric.Labels = append(metric.Labels, declared...)
	metric.verify, err = expectations(verify, metric.Labels)
	if metric.Verifiable = len(metric.verify) > 0; err != nil {
		return metric, errSchema(member.Name, "%w", err)
	}
	if err := describeElement(&metric, element); err != nil {
		return metric, errSchema(member.Name, "%w", err)
	}
	if common := len(metric.Labels) > len(declared); common != (metric.Name == eventsLost) ||
		common && (metric.Kind != Counter || !slices.Equal(metric.LabelNames(), []string{"module", "reason"})) {
		return metric, errSchema(member.Name, "all modules share one metric, %s: declare it with EVENTS_LOST", eventsLost)
	}
	return metric, nil
}

// expectations reads a tag "label=value,label=value: quantity + quantity; ...".
func expectations(text string, labels []Label) ([]expectation, error) {
	var all []expectation
	for part := range strings.SplitSeq(text, ";") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		expanded := []string{part}
		for _, l := range labels {
			if !strings.Contains(part, "{"+l.Name+"}") {
				continue
			}
			var each []string
			for _, value := range l.Values {
				for _, p := range expanded {
					each = append(each, l.Name+"="+value+","+withColon(strings.ReplaceAll(p, "{"+l.Name+"}", value)))
				}
			}
			expanded = each
		}
		for _, p := range expanded {
			e, err := parseExpectation(p, labels)
			if err != nil {
				return nil, fmt.Errorf("expectation %q: %w", part, err)
			}
			all = append(all, e)
		}
	}
	return all, nil
}

// withColon puts the colon before the quantities of a part without labels.
func withColon(part string) string {
	if strings.Contains(part, ":") {
		return part
	}
	return ":" + part
}

func parseExpectation(part string, labels []Label) (expectation, error) {
	pairs, quantities, _ := strings.Cut(withColon(part), ":")
	e := expectation{labels: make(map[string]string)}
	for quantity := range strings.SplitSeq(quantities, "+") {
		quantity = strings.TrimSpace(quantity)
		if !validName.MatchString(quantity) {
			return e, fmt.Errorf("%q is not the name of a quantity", quantity)
		}
		e.quantities = append(e.quantities, quantity)
	}
	for pair := range strings.FieldsFuncSeq(pairs, func(r rune) bool { return r == ',' || r == ' ' }) {
		name, value, _ := strings.Cut(pair, "=")
		if !slices.ContainsFunc(labels, func(l Label) bool { return l.Name == name && slices.Contains(l.Values, value) }) {
			return e, fmt.Errorf("%q is not a label and value of the metric", pair)
		}
		e.labels[name] = value
	}
	return e, nil
}

// elementOf strips the arrays around a type and returns their sizes, outermost first.
func elementOf(typ btf.Type) (btf.Type, []int) {
	var sizes []int
	for {
		array, ok := typ.(*btf.Array)
		if !ok || len(sizes) == maxLabels {
			return typ, sizes
		}
		sizes = append(sizes, int(array.Nelems))
		typ = array.Type
	}
}

func describeElement(metric *Metric, element btf.Type) error {
	switch t := element.(type) {
	case *btf.Typedef:
		switch t.Name {
		case "counter_t":
			metric.Kind, metric.width = Counter, 1
			return nil
		case "counter_ns_t":
			metric.Kind, metric.width, metric.scale = Counter, 1, nanosecond
			return nil
		case "gauge_t":
			metric.Kind, metric.width = Gauge, 1
			return nil
		}
	case *btf.Struct:
		scale, ok := map[string]float64{"hist_ns": nanosecond, "hist_ns_wide": nanosecond, "hist_bytes": 1}[t.Name]
		if ok {
			metric.Kind, metric.scale = Histogram, scale
			return describeHistogram(metric, t)
		}
	}
	return fmt.Errorf("unknown type %q (known: counter_t, counter_ns_t, gauge_t, struct hist_ns, struct hist_ns_wide, struct hist_bytes)", element.TypeName())
}

// describeHistogram reads the bounds from the layout of a histogram: the sum, and then the slots, whose tag has the
// first bound and the step to the next one as powers of two.
func describeHistogram(metric *Metric, layout *btf.Struct) error {
	errLayout := fmt.Errorf("the members of struct %s must be sum, then slot[n] with a tag le", layout.Name)
	if len(layout.Members) != 2 || layout.Members[0].Name != "sum" || layout.Members[1].Name != "slot" {
		return errLayout
	}
	slots, ok := layout.Members[1].Type.(*btf.Array)
	if !ok || slots.Nelems < 2 || layout.Size != (slots.Nelems+1)*wordSize || len(layout.Members[1].Tags) != 1 {
		return errLayout
	}
	first, step, err := parseSlots(layout.Members[1].Tags[0])
	if err != nil || first+step*int(slots.Nelems) > 64 {
		return errors.Join(errLayout, err)
	}
	for i := range int(slots.Nelems) - 1 {
		metric.Bounds = append(metric.Bounds, scaled(math.Ldexp(1, first+i*step), metric.scale))
	}
	metric.width = int(slots.Nelems) + 1
	return nil
}

// parseSlots reads a tag "le:10" or "le:10,step:2": the powers of two of the first bound and between two bounds.
func parseSlots(tag string) (first, step int, err error) {
	le, stepText, ok := strings.Cut(tag, ",")
	if step = 1; ok {
		step, err = strconv.Atoi(strings.TrimPrefix(stepText, "step:"))
	}
	first, leErr := strconv.Atoi(strings.TrimPrefix(le, "le:"))
	if err = errors.Join(err, leErr); err == nil && (first < 0 || first > 64 || step < 1 || step > 64) {
		err = fmt.Errorf("slots %q are out of range", tag)
	}
	return first, step, err
}

// scaled is v*scale, by a division if the scale is the inverse of a whole number: 1024 ns is then 1.024e-06 s and not a
// neighbor of it.
func scaled(v, scale float64) float64 {
	if scale < 1 {
		return v / math.Round(1/scale)
	}
	return v * scale
}

func describeLabels(types *btf.Spec, list string, sizes []int) ([]Label, error) {
	var pairs []string
	if list != "" {
		pairs = strings.Split(list, ",")
	}
	if len(pairs) != len(sizes) {
		return nil, fmt.Errorf("%d labels for an array of %d dimensions", len(pairs), len(sizes))
	}
	var labels []Label
	for i, pair := range pairs {
		name, enumName, ok := strings.Cut(pair, "=")
		if !ok || !validName.MatchString(name) || len(name) > maxName {
			return nil, fmt.Errorf("label %q is not name=enum", pair)
		}
		if slices.Contains(takenLabels[:], name) || slices.ContainsFunc(labels, func(l Label) bool { return l.Name == name }) {
			return nil, fmt.Errorf("label %q is a duplicate, or is reserved", name)
		}
		values, err := enumerators(types, enumName)
		if err != nil {
			return nil, fmt.Errorf("label %q: %w", name, err)
		}
		if len(values) != sizes[i] {
			return nil, fmt.Errorf("label %q has %d values for an array of %d", name, len(values), sizes[i])
		}
		labels = append(labels, Label{Name: name, Values: values})
	}
	return labels, nil
}

// enumerators returns the label values that an enum stands for: enum io_op { IO_OP_READ, IO_OP__COUNT } gives "read".
func enumerators(types *btf.Spec, name string) ([]string, error) {
	var enum *btf.Enum
	if err := types.TypeByName(name, &enum); err != nil {
		return nil, fmt.Errorf("enum %q (is LABEL_VALUES(%s) declared?): %w", name, name, err)
	}
	prefix := strings.ToUpper(name) + "_"
	var values []string
	for i, v := range enum.Values {
		value, ok := strings.CutPrefix(v.Name, prefix)
		if !ok || v.Value != uint64(i) {
			return nil, fmt.Errorf("enumerator %s does not begin with %s or is not the next number", v.Name, prefix)
		}
		if value == "_COUNT" {
			continue
		}
		value = strings.ToLower(value)
		if !validValue.MatchString(value) || len(value) > maxName || slices.Contains(values, value) {
			return nil, fmt.Errorf("enumerator %q: its label value is a duplicate, or not 1 to %d letters, digits and underscores", v.Name, maxName)
		}
		values = append(values, value)
	}
	return values, nil
}
