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
	"bytes"
	"cmp"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"maps"
	"os"
	"slices"
)

// shrink reduces a picture to 256 colors and compresses it: a browser saves millions of colors, compressed for speed.
func shrink(name string) error {
	content, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	picture, err := png.Decode(bytes.NewReader(content))
	if err != nil {
		return fmt.Errorf("reading %s: %w", name, err)
	}
	reduced := image.NewPaletted(picture.Bounds(), palette(picture))
	draw.Draw(reduced, reduced.Bounds(), picture, picture.Bounds().Min, draw.Src)
	var packed bytes.Buffer
	if err = (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&packed, reduced); err != nil {
		return fmt.Errorf("packing %s: %w", name, err)
	}
	return os.WriteFile(name, packed.Bytes(), 0o644)
}

// palette returns a picture's 256 most frequent colors. Of nearly equal colors only the most frequent one is used.
func palette(picture image.Image) color.Palette {
	type kin struct{ r, g, b uint8 }
	count := make(map[kin]map[color.RGBA]int)
	sum := make(map[kin]int)
	for y := picture.Bounds().Min.Y; y < picture.Bounds().Max.Y; y++ {
		for x := picture.Bounds().Min.X; x < picture.Bounds().Max.X; x++ {
			c := color.RGBAModel.Convert(picture.At(x, y)).(color.RGBA)
			k := kin{c.R >> 3, c.G >> 3, c.B >> 3}
			if count[k] == nil {
				count[k] = make(map[color.RGBA]int)
			}
			count[k][c]++
			sum[k]++
		}
	}
	frequent := slices.SortedFunc(maps.Keys(sum), func(a, b kin) int {
		return cmp.Or(sum[b]-sum[a], int(a.r)-int(b.r), int(a.g)-int(b.g), int(a.b)-int(b.b))
	})
	var colors color.Palette
	for _, k := range frequent[:min(256, len(frequent))] {
		var most color.RGBA
		for c, n := range count[k] {
			if n > count[k][most] || n == count[k][most] && packed(c) < packed(most) {
				most = c
			}
		}
		colors = append(colors, most)
	}
	return colors
}

func packed(c color.RGBA) uint32 { return uint32(c.R)<<16 | uint32(c.G)<<8 | uint32(c.B) }
