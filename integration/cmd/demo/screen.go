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
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	columns = 100
	// linesApart is the time between progress lines where they cannot overwrite each other.
	linesApart = 5 * time.Second
)

// screen is where the demo writes: a terminal, with color and a progress line that is overwritten, or anything else.
type screen struct {
	io.Writer
	lastLine time.Time
	terminal bool
	color    bool
	drawn    bool
}

func newScreen(file *os.File) *screen {
	info, err := file.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0
	return &screen{Writer: file, terminal: terminal, color: terminal && os.Getenv("NO_COLOR") == ""}
}

// progressf shows progress.
func (s *screen) progressf(format string, args ...any) {
	line := "demo: " + fmt.Sprintf(format, args...)
	if s.terminal {
		fmt.Fprintf(s, "\r\x1b[K%s", line)
		s.drawn = true
		return
	}
	if time.Since(s.lastLine) >= linesApart {
		s.lastLine = time.Now()
		fmt.Fprintln(s, line)
	}
}

// clear removes the progress line.
func (s *screen) clear() {
	if s.drawn {
		fmt.Fprint(s, "\r\x1b[K")
		s.drawn = false
	}
}

// heading starts a part of the report.
func (s *screen) heading(title, note string) {
	fmt.Fprintf(s, "\n%s", s.paint(bold, title))
	if note != "" {
		fmt.Fprintf(s, "  %s", s.paint(dim, note))
	}
	fmt.Fprintln(s)
}

const (
	bold  = "1"
	dim   = "2"
	green = "32"
)

func (s *screen) paint(style, text string) string {
	if !s.color {
		return text
	}
	return "\x1b[" + style + "m" + text + "\x1b[0m"
}

// table writes rows with aligned columns: the first column to the left and the others to the right, or all to the left
// if left is set. The first row is the header.
func (s *screen) table(left bool, rows ...[]string) {
	var widths []int
	for _, r := range rows {
		for i, cell := range r {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for n, r := range rows {
		var line strings.Builder
		for i, cell := range r {
			gap := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 || left {
				line.WriteString("  " + cell + gap)
			} else {
				line.WriteString("   " + gap + cell)
			}
		}
		text := strings.TrimRight(line.String(), " ")
		if n == 0 {
			text = s.paint(dim, text)
		}
		fmt.Fprintln(s, text)
	}
}

// bar draws a value against the greatest one, in eighths of a character.
func bar(value, greatest float64, width int) string {
	if value <= 0 || greatest <= 0 {
		return ""
	}
	eighths := int(math.Round(value / greatest * float64(width) * 8))
	// A value above zero must be visible.
	eighths = max(eighths, 1)
	full := strings.Repeat(string(eighthBlocks[8]), eighths/8)
	if rest := eighths % 8; rest > 0 {
		full += string(eighthBlocks[rest])
	}
	return full
}

// count formats a whole number with thousands separators.
func count[N uint64 | float64](n N) string {
	digits := strconv.FormatFloat(math.Round(float64(n)), 'f', 0, 64)
	var out strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			out.WriteByte(',')
		}
		out.WriteRune(d)
	}
	return out.String()
}

// size formats bytes with a binary unit.
func size(bytes float64) string {
	const step = 1024
	if bytes < step {
		return count(bytes) + " B"
	}
	bytes /= step
	for _, unit := range []string{"KiB", "MiB", "GiB"} {
		if bytes < step {
			return figure(bytes) + " " + unit
		}
		bytes /= step
	}
	return figure(bytes) + " TiB"
}

// span formats seconds with the unit that fits. NaN is a dash.
func span(s float64) string {
	switch {
	case math.IsNaN(s):
		return "-"
	case math.IsInf(s, 1):
		return "∞"
	case s < 1e-6:
		return figure(s*1e9) + " ns"
	case s < 1e-3:
		return figure(s*1e6) + " µs"
	case s < 1:
		return figure(s*1e3) + " ms"
	}
	return figure(s) + " s"
}

// figure formats a number from 1 to 1023 with three significant digits.
func figure(v float64) string {
	switch {
	case v >= 99.95:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 9.995:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

// percent formats a share. A share above zero is never shown as zero.
func percent(share float64) string {
	if share > 0 && share < 0.0005 {
		return "<0.1 %"
	}
	return strconv.FormatFloat(100*share, 'f', 1, 64) + " %"
}
