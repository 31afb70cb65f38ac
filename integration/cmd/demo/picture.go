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
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/ask"
	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/load"
)

// The dimensions of the picture, in SVG user units. A cell is one character.
const (
	cellWidth  = 7.8
	lineHeight = 19.0
	fontSize   = 13.0
	baseline   = 14.0 // Of the text, below the top of its line.
	barInset   = 3.0
	margin     = 20.0
	titleBar   = 36.0
)

// eighthBlocks are the characters that bar draws with, by how many eighths of a cell they fill.
var eighthBlocks = []rune(" ▏▎▍▌▋▊▉█")

var (
	escape = regexp.MustCompile("\x1b\\[([0-9]+)m")
	// wideGap separates columns.
	wideGap = regexp.MustCompile(" {2,}")
)

// savePicture draws the report into a file.
func savePicture(name string, f figures, queries []ask.Receipt, stats load.Stats) error {
	var text strings.Builder
	writeReport(&screen{Writer: &text, color: true}, f, queries, stats)
	var picture strings.Builder
	writePicture(&picture, "make demo", text.String())
	if err := os.WriteFile(name, []byte(picture.String()), 0o644); err != nil {
		return fmt.Errorf("drawing the report: %w", err)
	}
	return nil
}

// writePicture draws a terminal window in which a command has printed text, as SVG. It has its own background, and
// needs no particular font: every word is fitted into its cells, and bars are rectangles.
func writePicture(out io.Writer, command, text string) {
	lines := append([]string{paintPrompt(command), ""}, strings.Split(strings.TrimRight(text, "\n"), "\n")...)
	widest := 0
	for _, line := range lines {
		widest = max(widest, utf8.RuneCountInString(escape.ReplaceAllString(line, "")))
	}
	width, height := 2*margin+float64(widest)*cellWidth, titleBar+float64(len(lines))*lineHeight+2*margin
	fmt.Fprintf(out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %[1]g %[2]g" width="%[1]g" height="%[2]g" role="img" aria-label="What %[3]s prints">
<style>
text { font: %[4]gpx ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", "Liberation Mono", monospace; fill: #c9d1d9; white-space: pre }
.s%[5]s { fill: #f0f6fc; font-weight: bold }
.s%[6]s { fill: #848d97 }
.s%[7]s { fill: #3fb950 }
</style>
<rect x="0.5" y="0.5" width="%[8]g" height="%[9]g" rx="9.5" fill="#161b22" stroke="#3d444d"/>
<path d="M1 %[10]gH%[11]g" stroke="#30363d"/>
<circle cx="20" cy="18" r="6" fill="#ff5f57"/><circle cx="40" cy="18" r="6" fill="#febc2e"/><circle cx="60" cy="18" r="6" fill="#28c840"/>
`, width, height, escaped(command), fontSize, bold, dim, green, width-1, height-1, titleBar, width-1)
	for i, line := range lines {
		drawLine(out, line, titleBar+margin+float64(i)*lineHeight)
	}
	fmt.Fprintln(out, "</svg>")
}

func paintPrompt(command string) string {
	s := screen{color: true}
	return s.paint(green, "$") + " " + s.paint(bold, command)
}

// drawLine draws one line of text whose cells begin at top.
func drawLine(out io.Writer, line string, top float64) {
	column, style, from := 0, "", 0
	for _, code := range append(escape.FindAllStringSubmatchIndex(line, -1), []int{len(line), len(line), len(line), len(line)}) {
		column = drawSpan(out, line[from:code[0]], style, column, top)
		from = code[1]
		if style = line[code[2]:code[3]]; style == "0" {
			style = ""
		}
	}
}

// drawSpan draws text of one style, starting at a column, and returns the column after it.
func drawSpan(out io.Writer, text, style string, column int, top float64) int {
	for text != "" {
		word, gap := text, ""
		if at := wideGap.FindStringIndex(text); at != nil {
			word, gap = text[:at[0]], text[at[0]:at[1]]
		}
		text = text[len(word)+len(gap):]
		drawWord(out, strings.TrimRight(word, " "), style, column, top)
		column += utf8.RuneCountInString(word) + len(gap)
	}
	return column
}

func drawWord(out io.Writer, word, style string, column int, top float64) {
	lead := len(word) - len(strings.TrimLeft(word, " "))
	word, column = word[lead:], column+lead
	if word == "" {
		return
	}
	class := ""
	if style != "" {
		class = ` class="s` + style + `"`
	}
	x := margin + float64(column)*cellWidth
	if eighths, ok := barEighths(word); ok {
		fmt.Fprintf(out, `<rect x="%.1f" y="%.1f" width="%.2f" height="%.1f" rx="1"%s/>`+"\n",
			x, top+barInset, float64(eighths)/8*cellWidth, lineHeight-2*barInset, class)
		return
	}
	fmt.Fprintf(out, `<text x="%.1f" y="%.1f" textLength="%.1f" lengthAdjust="spacingAndGlyphs"%s>%s</text>`+"\n",
		x, top+baseline, float64(utf8.RuneCountInString(word))*cellWidth, class, escaped(word))
}

// barEighths returns the length of a bar, in eighths of a cell, and whether the word is a bar.
func barEighths(word string) (int, bool) {
	sum := 0
	for _, r := range word {
		eighths := slices.Index(eighthBlocks, r)
		if eighths <= 0 {
			return 0, false
		}
		sum += eighths
	}
	return sum, true
}

func escaped(text string) string {
	var out strings.Builder
	// A Builder does not fail.
	_ = xml.EscapeText(&out, []byte(text))
	return out.String()
}
