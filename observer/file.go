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
	"bytes"
	"encoding/binary"
	"iter"
	"slices"
	"strings"
	"sync"
)

// File is what a file holds, by the labels of the metrics that are counted by file.
type File struct {
	// Catalog is the value of the label catalog. It may be empty.
	Catalog string
	// Kind is the value of the label kind, such as index. It must be lower-case letters, digits and underscores.
	Kind string
	// Group is the value of the label group, such as the name of a database. The first 64 groups are told apart, the
	// others have the group other. It may be empty.
	Group string
}

// fileLabels are the labels of metrics by file. They come before the metric's own ones, and after those of a work.
var fileLabels = [...]string{"catalog", "kind", "group"}

// What the programs count for no path: FILE_OTHER and its successors in bpf/file.h.
var pathless = [...]File{{Kind: "other"}, {Kind: "unnamed"}, {Kind: "none"}, {Kind: "socket"}, {Kind: "pipe"}}

const (
	maxFiles      = 512  // different Files; what comes later is pathless[0]
	maxFilesWorks = 1024 // different pairs of a File and a name of a work
	maxFileGroups = 64
)

// otherGroup is the group of what comes after maxFileGroups.
const otherGroup = "other"

// fileTableMap is the name of the map in which a module's programs number files and cells.
const fileTableMap = "file_table"

// Numbers of bpf/file.h.
const (
	cells          = 1024
	fileNumbers    = 512
	fileTags       = 4096
	fileLevels     = 10
	fileNameWords  = 4
	fileShapeWords = fileLevels * fileNameWords
)

// fileMetric is a metric by file. It is counted where the programs count the metric by work that it goes with.
type fileMetric struct {
	Metric

	with     string  // the name of the metric by work
	own      []Label // without those of files and works
	inner    int     // series in each place
	withWork bool    // has the label work too
}

// places returns how many places a snapshot has for the metric.
func (m *fileMetric) places() int {
	if m.withWork {
		return maxFilesWorks
	}
	return maxFiles
}

// byFileOf returns the metric by file that a module declares with a metric by work.
func byFileOf(m *Metric) fileMetric {
	f := fileMetric{Metric: *m, with: m.Name, own: m.Labels[m.outer():], inner: m.inner(), withWork: m.byFile.withWork}
	f.Name, f.Help, f.ByFile = m.ByFile, m.byFile.help, ""
	f.Labels = nil
	if f.withWork {
		f.Labels = append(f.Labels, Label{Name: workLabels[0]})
	}
	for _, name := range fileLabels {
		f.Labels = append(f.Labels, Label{Name: name})
	}
	f.Labels = append(f.Labels, f.own...)
	return f
}

// labels returns the label values of a series.
func (m *fileMetric) labels(place filePlace, i int) []string {
	var values []string
	if m.withWork {
		values = append(values, place.work)
	}
	values = append(values, place.file.Catalog, place.file.Kind, place.file.Group)
	return append(values, valuesAt(m.own, i)...)
}

// filePlace is what a snapshot counts in one place.
type filePlace struct {
	file File
	work string // of metrics that have the label work too
}

// filePlaces gives each File, and each pair of a File and the name of a work, its place in the snapshots of an Observer. A
// place never changes. It is safe for concurrent use.
type filePlaces struct {
	mu     sync.Mutex
	alone  placeTable
	both   placeTable
	groups []string
}

// placeTable is a list of places. The first ones are for what has no room.
type placeTable struct {
	all  []filePlace
	most int
}

// init makes the places for what has no room: its work is known.
func (p *filePlaces) init(works *Works) {
	p.alone, p.both = placeTable{most: maxFiles}, placeTable{most: maxFilesWorks}
	p.alone.enter(filePlace{file: pathless[0]})
	for _, work := range works.all() {
		p.both.enter(filePlace{file: pathless[0], work: work.Name})
	}
}

// enter returns the index of a place, which it appends if it is new and there is room.
func (t *placeTable) enter(place filePlace) int {
	i := slices.Index(t.all, place)
	if i < 0 && len(t.all) < t.most {
		i, t.all = len(t.all), append(t.all, place)
	}
	if i < 0 {
		i = slices.Index(t.all, filePlace{file: pathless[0], work: place.work})
	}
	return i
}

// bound returns a valid File with one of the known groups.
func (p *filePlaces) bound(file File) File {
	if !validValue.MatchString(file.Kind) || file.Catalog != "" && !validValue.MatchString(file.Catalog) {
		return pathless[0]
	}
	file.Group = strings.ToValidUTF8(file.Group, "?")
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case file.Group == "" || slices.Contains(p.groups, file.Group):
	case len(p.groups) < maxFileGroups:
		p.groups = append(p.groups, file.Group)
	default:
		file.Group = otherGroup
	}
	return file
}

// enter returns the places of a File, alone and with the name of a work.
func (p *filePlaces) enter(file File, work string) (alone, both int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.alone.enter(filePlace{file: file}), p.both.enter(filePlace{file, work})
}

// known returns all places so far.
func (p *filePlaces) known(withWork bool) []filePlace {
	p.mu.Lock()
	defer p.mu.Unlock()
	if withWork {
		return p.both.all
	}
	return p.alone.all
}

// FileMetrics iterates over the metrics of Files, whether or not they have series.
func (s *Snapshot) FileMetrics() iter.Seq[*Metric] {
	return func(yield func(*Metric) bool) {
		for i := range s.files {
			if !yield(&s.files[i].Metric) {
				return
			}
		}
	}
}

// Files iterates over what was counted by file: counters that Schema does not have, since which series there are is known
// only when they are counted. Series that are Empty are left out. In each snapshot, the sum over the series of
// ebpf_<module>_file_<metric> equals the sum over those of ebpf_<module>_attributed_<metric>.
func (s *Snapshot) Files() iter.Seq[Series] {
	return func(yield func(Series) bool) {
		for i := range s.files {
			m := &s.files[i]
			for place, of := range s.places.known(m.withWork) {
				for j := range m.inner {
					first := m.offset + (place*m.inner+j)*m.width
					one := Series{Metric: &m.Metric, words: s.words[first : first+m.width]}
					if one.Empty() {
						continue
					}
					if one.Labels = m.labels(of, j); !yield(one) {
						return
					}
				}
			}
		}
	}
}

// shapePath returns the text of a shape: its names, from the file upwards, in words.
func shapePath(shape []uint64) string {
	var names []string
	for words := range slices.Chunk(shape, fileNameWords) {
		var name []byte
		for _, word := range words {
			name = binary.NativeEndian.AppendUint64(name, word)
		}
		if name = bytes.TrimRight(name, "\x00"); len(name) > 0 {
			names = append(names, string(name))
		}
	}
	slices.Reverse(names)
	return "/" + strings.Join(names, "/")
}
