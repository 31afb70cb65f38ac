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
	"image"
	"image/color"
	"image/png"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestShrink checks that a picture keeps its dimensions, that few colors are kept, and that the file of one with many
// colors becomes smaller.
func TestShrink(t *testing.T) {
	name := filepath.Join(t.TempDir(), "picture.png")
	few, many := image.NewRGBA(image.Rect(0, 0, 64, 64)), image.NewRGBA(image.Rect(0, 0, 64, 64))
	noise := rand.New(rand.NewPCG(1, 2))
	for i := range 64 * 64 {
		x, y := i%64, i/64
		few.Set(x, y, color.RGBA{R: uint8(x / 32 * 200), G: uint8(y / 32 * 200), A: 255})
		many.Set(x, y, color.RGBA{R: uint8(noise.Uint32()), G: uint8(noise.Uint32()), B: uint8(noise.Uint32()), A: 255})
	}
	through := func(picture image.Image) (image.Image, int64, int64) {
		f, err := os.Create(name)
		require.NoError(t, err)
		require.NoError(t, png.Encode(f, picture))
		before, err := f.Stat()
		require.NoError(t, err)
		require.NoError(t, f.Close())
		require.NoError(t, shrink(name))
		f, err = os.Open(name)
		require.NoError(t, err)
		defer f.Close()
		after, err := f.Stat()
		require.NoError(t, err)
		shrunk, err := png.Decode(f)
		require.NoError(t, err)
		return shrunk, before.Size(), after.Size()
	}
	shrunk, _, _ := through(few)
	require.Equal(t, few.Bounds(), shrunk.Bounds())
	for i := range 64 * 64 {
		require.Equal(t, few.At(i%64, i/64), color.RGBAModel.Convert(shrunk.At(i%64, i/64)))
	}
	shrunk, before, after := through(many)
	require.Equal(t, many.Bounds(), shrunk.Bounds())
	require.Less(t, after, before)
}
