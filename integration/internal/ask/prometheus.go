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

package ask

import (
	"context"
	"fmt"
	"io"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// prefix is the prefix of every metric on the server's Prometheus page.
const prefix = "banyandb_"

// Prometheus reads the page /metrics of a server's observability address, host:port.
func Prometheus(address string) Source {
	return func(ctx context.Context, metric string) (Samples, error) {
		families, err := Scrape(ctx, address)
		if err != nil {
			return nil, err
		}
		family, ok := families[prefix+metric]
		if !ok {
			return nil, fmt.Errorf("looking for %s: %w", metric, ErrAbsent)
		}
		return SamplesOf(family), nil
	}
}

// Scrape returns all metrics of the page by name.
func Scrape(ctx context.Context, address string) (map[string]*dto.MetricFamily, error) {
	page, err := get(ctx, address, "/metrics")
	if err != nil {
		return nil, fmt.Errorf("scraping: %w", err)
	}
	defer page.Close()
	return parse(page)
}

func parse(page io.Reader) (map[string]*dto.MetricFamily, error) {
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(page)
	if err != nil {
		return nil, fmt.Errorf("parsing the Prometheus page: %w", err)
	}
	return families, nil
}

// SamplesOf returns a family's samples, those of counters, gauges and untyped metrics, which are all that the server exports.
func SamplesOf(family *dto.MetricFamily) Samples {
	samples := make([]Sample, 0, len(family.GetMetric()))
	for _, m := range family.GetMetric() {
		labels := make(map[string]string)
		for _, pair := range m.GetLabel() {
			labels[pair.GetName()] = pair.GetValue()
		}
		var value float64
		switch family.GetType() {
		case dto.MetricType_COUNTER:
			value = m.GetCounter().GetValue()
		case dto.MetricType_GAUGE:
			value = m.GetGauge().GetValue()
		case dto.MetricType_UNTYPED:
			value = m.GetUntyped().GetValue()
		default:
			continue
		}
		samples = append(samples, newSample(time.Time{}, labels, value))
	}
	return latest(samples)
}
