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

//go:build linux

package main

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestParseTargets(t *testing.T) {
	got, sources := parseTargets(`bookworm main http://mirror.example/debian/ /etc/apt/sources.list.d/debian.sources:1
bookworm contrib http://mirror.example/contrib/ /etc/apt/sources.list.d/debian.sources:1
bookworm-updates main http://mirror.example/updates/ /etc/apt/sources.list.d/debian.sources:1
bookworm-security main http://mirror.example/debian-security/ /etc/apt/sources.list:2

`)
	if want := (archive{main: "http://mirror.example/debian/", security: "http://mirror.example/debian-security/"}); !reflect.DeepEqual(got, want) {
		t.Errorf("got archive %+v, want %+v", got, want)
	}
	if want := []string{"/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"}; !slices.Equal(sources, want) {
		t.Errorf("got sources %q, want %q", sources, want)
	}
}

func TestSignedBy(t *testing.T) {
	for name, sources := range map[string]string{
		"deb822": "Types: deb\nURIs: http://mirror.example\n# Signed-By: /not/this\nSigned-By: /a.gpg\n",
		"line":   "# deb [signed-by=/not/this] http://mirror.example x main\ndeb [arch=amd64 signed-by=/a.gpg] http://mirror.example x main\n",
	} {
		if got := signedBy(sources); !slices.Equal(got, []string{"/a.gpg"}) {
			t.Errorf("%s: got %q", name, got)
		}
	}
	if got := signedBy("deb [signed-by=/a.gpg,/b.asc] http://mirror.example x main"); !slices.Equal(got, []string{"/a.gpg", "/b.asc"}) {
		t.Errorf("got %q, want both keyrings", got)
	}
	if got := signedBy("Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n"); got != nil {
		t.Errorf("got %q from an inline key, want none", got)
	}
}

func TestStanza(t *testing.T) {
	s := parseStanza(`Package: linux-image-7.2.13+deb14-cloud-amd64
Version: 7.2.13-1
Depends: dracut | initramfs-tools (>= 0.120) | linux-initramfs-tool, linux-base-7.2.13+deb14-cloud-amd64 (= 7.2.13-1), linux-binary-7.2.13+deb14-cloud-amd64 (= 7.2.13-1), linux-modules-7.2.13+deb14-cloud-amd64 (= 7.2.13-1)
Description: Linux kernel
 Version: not this
Size: 1916

Package: other
Version: 1
`)
	if s["Version"] != "7.2.13-1" || s["Size"] != "1916" {
		t.Errorf("got %v", s)
	}
	if got := s.depends("linux-modules-"); !slices.Equal(got, []string{"linux-modules-7.2.13+deb14-cloud-amd64"}) {
		t.Errorf("got modules packages %q", got)
	}
	if got := s.depends("linux-image-"); got != nil {
		t.Errorf("got image packages %q, want none", got)
	}
	if got := parseStanza("").depends(""); got != nil {
		t.Errorf("got %q from no package, want none", got)
	}
}

func TestParseModinfo(t *testing.T) {
	if got := parseModinfo("license=GPL\x00depends=virtio-ring,virtio\x00name=virtio_pci\x00"); !slices.Equal(got, []string{"virtio_ring", "virtio"}) {
		t.Errorf("got %q", got)
	}
	if got := parseModinfo("depends=\x00name=virtio_ring\x00"); got != nil {
		t.Errorf("got %q, want none", got)
	}
}

func TestFetchFallsBackToTheCache(t *testing.T) {
	// Without apt, fetch fails as it does without a network.
	t.Setenv("PATH", t.TempDir())
	cache := t.TempDir()
	if _, _, err := fetch(t.Context(), cache, "trixie", "amd64"); err == nil {
		t.Fatal("fetched a kernel without apt")
	}
	dir := filepath.Join(cache, "trixie-amd64", kernelPrefix+"6.12.1-1")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{imageName, "01-virtio_blk.ko", "00-virtio.ko"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, note, err := fetch(t.Context(), cache, "trixie", "amd64")
	if err != nil {
		t.Fatal(err)
	}
	want := kernel{
		version: "6.12.1-1", image: filepath.Join(dir, imageName),
		modules: []string{filepath.Join(dir, "00-virtio.ko"), filepath.Join(dir, "01-virtio_blk.ko")},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got kernel %+v, want %+v", got, want)
	}
	if !strings.Contains(note, "cached kernel") {
		t.Errorf("note %q does not say that the kernel is cached", note)
	}
}
