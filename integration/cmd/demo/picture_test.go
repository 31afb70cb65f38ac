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

package main

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/load"
)

// shape is a text or a rectangle of a picture.
type shape struct {
	Name  xml.Name
	Class string  `xml:"class,attr"`
	Text  string  `xml:",chardata"`
	X     float64 `xml:"x,attr"`
	Y     float64 `xml:"y,attr"`
	Width float64 `xml:"width,attr"`
	Fit   float64 `xml:"textLength,attr"`
}

// shapesOf parses a picture as XML, as a browser does.
func shapesOf(t *testing.T, picture string) []shape {
	t.Helper()
	var shapes []shape
	decoder := xml.NewDecoder(strings.NewReader(picture))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return shapes
		}
		require.NoError(t, err)
		if start, ok := token.(xml.StartElement); ok && (start.Name.Local == "text" || start.Name.Local == "rect") {
			var s shape
			require.NoError(t, decoder.DecodeElement(&s, &start))
			s.Name = start.Name
			shapes = append(shapes, s)
		}
	}
}

// TestPictureShowsTheReport puts the texts of the picture back into their cells and compares them with what a terminal
// shows, except for the bars.
func TestPictureShowsTheReport(t *testing.T) {
	stats := load.Stats{Measure: load.Counts{Written: 1000}, Elapsed: 20 * time.Second}
	var report, colored, picture strings.Builder
	writeReport(&screen{Writer: &report}, exampleFigures(t), exampleQueries, stats)
	writeReport(&screen{Writer: &colored, color: true}, exampleFigures(t), exampleQueries, stats)
	writePicture(&picture, "make demo", colored.String())

	var lines []string
	column, bars := 0, 0
	for _, s := range shapesOf(t, picture.String()) {
		if s.Name.Local == "rect" {
			bars++
			continue
		}
		assert.InDelta(t, float64(utf8.RuneCountInString(s.Text))*cellWidth, s.Fit, 0.06, s.Text)
		for row := (s.Y - titleBar - margin - baseline) / lineHeight; float64(len(lines)) <= row+0.5; column = 0 {
			lines = append(lines, "")
		}
		start := int((s.X-margin)/cellWidth + 0.5)
		lines[len(lines)-1] += strings.Repeat(" ", start-column) + s.Text
		column = start + utf8.RuneCountInString(s.Text)
	}
	assert.Equal(t, 3, bars, "the window and two bars")
	want := "$ make demo\n\n" + strings.NewReplacer("█", " ").Replace(report.String())
	assert.Equal(t, strings.TrimRight(want, "\n"), strings.Join(lines, "\n"))
}

func TestPictureOfALine(t *testing.T) {
	s := screen{color: true}
	var picture strings.Builder
	writePicture(&picture, "a & b", fmt.Sprintf("  x<1  %s  7", s.paint(green, "█▌")))
	shapes := shapesOf(t, picture.String())
	window, shapes := shapes[0], shapes[1:]
	assert.InDelta(t, 2*margin+12*cellWidth, window.Width+1, 0.01)

	at := func(column int) float64 { return margin + float64(column)*cellWidth }
	for i, want := range []struct {
		class, text string
		x           float64
	}{
		{"s" + green, "$", at(0)},
		{"s" + bold, "a & b", at(2)},
		{"", "x<1", at(2)},
		{"s" + green, "", at(7)},
		{"", "7", at(11)},
	} {
		got := shapes[i]
		assert.Equal(t, want.class, got.Class, strconv.Itoa(i))
		assert.Equal(t, want.text, got.Text)
		assert.InDelta(t, want.x, got.X, 0.06, got.Text)
	}
	assert.InDelta(t, 1.5*cellWidth, shapes[3].Width, 0.01)
}

// TestPictureStandsAlone checks that the picture references no other resource.
func TestPictureStandsAlone(t *testing.T) {
	var picture strings.Builder
	writePicture(&picture, "make demo", "text")
	without := strings.Replace(picture.String(), `xmlns="http://www.w3.org/2000/svg"`, "", 1)
	for _, outside := range []string{"http", "url(", "@import", "href", "script"} {
		assert.NotContains(t, without, outside)
	}
}
