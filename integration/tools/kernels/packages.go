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
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// archive is the Debian archive that this machine's apt uses.
type archive struct {
	// main and security are the addresses of the two parts. The second may be empty.
	main, security string
	// keyrings are the files with the keys that sign the archive's suites.
	keyrings []string
}

// kernel is a kernel ready to boot.
type kernel struct {
	// version is the version of the Debian package.
	version string
	// image is the path of the kernel.
	image string
	// modules are the paths of the modules for the disk, in the order to load them.
	modules []string
}

// diskModules are the modules for ext4 on a virtio disk. Those built into a kernel have no file.
var diskModules = []string{"virtio_pci", "virtio_blk", "ext4"}

// machineArchive gets the archive from apt's configuration.
func machineArchive(ctx context.Context) (archive, error) {
	release, err := os.ReadFile("/etc/os-release")
	if err != nil || !slices.Contains(strings.Split(string(release), "\n"), "ID=debian") {
		return archive{}, errors.New("this machine does not run Debian, whose apt configuration would name the archive to take kernels from")
	}
	targets, err := output(ctx, "apt-get", "indextargets", "--format", "$(RELEASE) $(COMPONENT) $(REPO_URI) $(SOURCESENTRY)", "Created-By: Packages")
	if err != nil {
		return archive{}, err
	}
	a, sources := parseTargets(targets)
	if a.main == "" {
		return archive{}, errors.New("the apt configuration of this machine names no Debian archive")
	}
	for _, source := range sources {
		text, err := os.ReadFile(source)
		if err != nil {
			return archive{}, err
		}
		a.keyrings = append(a.keyrings, signedBy(string(text))...)
	}
	// The configured keyring may be valid only for the machine's own suite.
	all, err := filepath.Glob("/usr/share/keyrings/debian-archive-keyring.*")
	if err != nil {
		return archive{}, err
	}
	a.keyrings = append(a.keyrings, all...)
	slices.Sort(a.keyrings)
	a.keyrings = slices.Compact(a.keyrings)
	return a, nil
}

// parseTargets parses lines of release, component, address and source entry. It also returns the entries' files.
func parseTargets(lines string) (archive, []string) {
	var a archive
	var sources []string
	for line := range strings.Lines(lines) {
		fields := strings.Fields(line)
		if len(fields) != 4 || fields[1] != "main" {
			continue
		}
		switch release := fields[0]; {
		case strings.HasSuffix(release, "-security"):
			a.security = fields[2]
		case !strings.Contains(release, "-"):
			a.main = fields[2]
		default:
			continue
		}
		file, _, _ := strings.Cut(fields[3], ":")
		if !slices.Contains(sources, file) {
			sources = append(sources, file)
		}
	}
	return a, sources
}

var signedByOption = regexp.MustCompile(`(?im)^(?:deb\s.*\b)?signed-by[:=]\s*(/[^\s\]]+)`)

// signedBy returns the keyrings that a sources file, of either format, names.
func signedBy(sources string) []string {
	var files []string
	for _, match := range signedByOption.FindAllStringSubmatch(sources, -1) {
		files = append(files, strings.Split(match[1], ",")...)
	}
	return files
}

// apt is a private apt. It shares only the archive with the machine's own.
type apt struct {
	config string
	arch   string
}

// newApt sets up a private apt for one suite in dir.
func newApt(dir string, a archive, suite, arch string) (apt, error) {
	for _, sub := range []string{"lists/partial", "archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return apt{}, err
		}
	}
	options := "[target=Packages]"
	if len(a.keyrings) > 0 {
		options = fmt.Sprintf("[target=Packages signed-by=%s]", strings.Join(a.keyrings, ","))
	}
	sources := fmt.Sprintf("deb %s %s %s main\n", options, a.main, suite)
	// The unstable suite has no separate security suite.
	if a.security != "" && suite != "sid" {
		sources += fmt.Sprintf("deb %s %s %s-security main\n", options, a.security, suite)
	}
	config := fmt.Sprintf(`Dir::Etc::sourcelist "%[1]s/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State::lists "%[1]s/lists";
Dir::State::status "%[1]s/status";
Dir::Cache "%[1]s";
APT::Architecture "%[2]s";
#clear APT::Architectures;
APT::Architectures { "%[2]s"; };
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
Acquire::Languages "none";
Acquire::Retries "2";
`, dir, arch)
	for name, content := range map[string]string{"sources.list": sources, "apt.conf": config, "status": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			return apt{}, err
		}
	}
	return apt{config: filepath.Join(dir, "apt.conf"), arch: arch}, nil
}

// newest returns the version of the suite's newest kernel and the names of the packages that contain it.
func (a apt) newest(ctx context.Context) (version string, packages []string, err error) {
	if _, err := output(ctx, "apt-get", "-c", a.config, "-q", "update"); err != nil {
		return "", nil, err
	}
	meta, err := a.show(ctx, "linux-image-cloud-"+a.arch)
	if err != nil {
		return "", nil, err
	}
	image := meta.depends("linux-image-")
	if len(image) != 1 {
		return "", nil, fmt.Errorf("package linux-image-cloud-%s depends on %d kernels in %q", a.arch, len(image), meta["Depends"])
	}
	pkg, err := a.show(ctx, image[0])
	if err != nil {
		return "", nil, err
	}
	// In newer suites the image package has only these two dependencies and no files.
	packages = append(pkg.depends("linux-binary-"), pkg.depends("linux-modules-")...)
	if len(packages) == 0 {
		packages = image
	}
	return pkg["Version"], packages, nil
}

func (a apt) show(ctx context.Context, name string) (stanza, error) {
	text, err := output(ctx, "apt-cache", "-c", a.config, "show", "--no-all-versions", name)
	if err != nil {
		return nil, err
	}
	return parseStanza(text), nil
}

// stanza is the entry of one package in a package index.
type stanza map[string]string

// parseStanza parses the first stanza, without continuation lines.
func parseStanza(text string) stanza {
	s := stanza{}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if line == "" && len(s) > 0 {
			break
		}
		if key, value, ok := strings.Cut(line, ": "); ok && !strings.HasPrefix(line, " ") {
			s[key] = value
		}
	}
	return s
}

// depends returns the dependencies whose names start with the prefix.
func (s stanza) depends(prefix string) []string {
	var names []string
	for _, dependency := range strings.Split(s["Depends"], ",") {
		if fields := strings.Fields(dependency); len(fields) > 0 && strings.HasPrefix(fields[0], prefix) {
			names = append(names, fields[0])
		}
	}
	return names
}

// fetch returns the newest kernel of a suite, and downloads it into the cache if needed. If the suite cannot be
// reached, it returns the cached kernel, and the reason as note.
func fetch(ctx context.Context, cache, suite, arch string) (k kernel, note string, err error) {
	dir, err := filepath.Abs(filepath.Join(cache, suite+"-"+arch))
	if err != nil {
		return kernel{}, "", err
	}
	k, err = fetchNewest(ctx, dir, suite, arch)
	if err == nil || ctx.Err() != nil {
		return k, "", err
	}
	cached, cacheErr := readKernels(dir)
	if cacheErr != nil {
		return kernel{}, "", errors.Join(err, cacheErr)
	}
	if len(cached) == 0 {
		return kernel{}, "", fmt.Errorf("no kernel of %s for %s in the cache, and none can be downloaded: %w", suite, arch, err)
	}
	return cached[0], fmt.Sprintf("the suite cannot be reached, a cached kernel is used: %v", err), nil
}

func fetchNewest(ctx context.Context, dir, suite, arch string) (kernel, error) {
	from, err := machineArchive(ctx)
	if err != nil {
		return kernel{}, err
	}
	private, err := newApt(filepath.Join(dir, "apt"), from, suite, arch)
	if err != nil {
		return kernel{}, err
	}
	version, packages, err := private.newest(ctx)
	if err != nil {
		return kernel{}, err
	}
	cached, err := readKernels(dir)
	if err != nil {
		return kernel{}, err
	}
	for _, k := range cached {
		if k.version == version {
			return k, nil
		}
	}
	tmp := filepath.Join(dir, "unpack")
	// A run that was killed may have left files.
	if err := os.RemoveAll(tmp); err != nil {
		return kernel{}, err
	}
	if err := os.Mkdir(tmp, 0o755); err != nil {
		return kernel{}, err
	}
	defer os.RemoveAll(tmp)
	for _, name := range packages {
		if err := private.unpack(ctx, name+"="+version, tmp); err != nil {
			return kernel{}, err
		}
	}
	ready := filepath.Join(tmp, "ready")
	if err := prepare(ctx, filepath.Join(tmp, "root"), ready); err != nil {
		return kernel{}, fmt.Errorf("preparing kernel %s of %s: %w", version, suite, err)
	}
	// Keep one kernel per suite. The rename ensures that a kernel's folder is complete.
	for _, k := range cached {
		if err := os.RemoveAll(filepath.Dir(k.image)); err != nil {
			return kernel{}, err
		}
	}
	if err := os.Rename(ready, filepath.Join(dir, kernelPrefix+version)); err != nil {
		return kernel{}, err
	}
	return readKernel(dir, version)
}

// unpack adds the files of a package to dir/root.
func (a apt) unpack(ctx context.Context, pkg, dir string) error {
	download := exec.CommandContext(ctx, "apt-get", "-c", a.config, "-q", "download", pkg)
	download.Dir = dir
	if text, err := download.CombinedOutput(); err != nil {
		return fmt.Errorf("downloading package %s: %w: %s", pkg, err, text)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil {
		return err
	}
	if len(files) != 1 {
		return fmt.Errorf("downloading package %s gave %d files", pkg, len(files))
	}
	if _, err := output(ctx, "dpkg-deb", "-x", files[0], filepath.Join(dir, "root")); err != nil {
		return err
	}
	return os.Remove(files[0])
}

const (
	kernelPrefix = "kernel-"
	imageName    = "vmlinuz"
)

// prepare moves the image of an unpacked kernel, and copies the modules for booting it, uncompressed and numbered in
// load order.
func prepare(ctx context.Context, root, ready string) error {
	if err := os.Mkdir(ready, 0o755); err != nil {
		return err
	}
	var image string
	modules := map[string]string{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		if strings.HasPrefix(entry.Name(), imageName) {
			image = path
		}
		if name, _, ok := strings.Cut(entry.Name(), ".ko"); ok {
			modules[strings.ReplaceAll(name, "-", "_")] = path
		}
		return nil
	})
	if err != nil {
		return err
	}
	if image == "" {
		return errors.New("the packages hold no kernel image")
	}
	if err := os.Rename(image, filepath.Join(ready, imageName)); err != nil {
		return err
	}
	done := map[string]bool{}
	var add func(name string) error
	add = func(name string) error {
		path, isFile := modules[name]
		if done[name] || !isFile {
			return nil
		}
		done[name] = true
		content, err := uncompressed(ctx, path)
		if err != nil {
			return err
		}
		needed, err := moduleDepends(content)
		if err != nil {
			return fmt.Errorf("reading module %s: %w", name, err)
		}
		for _, dependency := range needed {
			if err := add(dependency); err != nil {
				return err
			}
		}
		loaded, err := filepath.Glob(filepath.Join(ready, "*.ko"))
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(ready, fmt.Sprintf("%02d-%s.ko", len(loaded), name)), content, 0o644)
	}
	for _, name := range diskModules {
		if err := add(name); err != nil {
			return err
		}
	}
	return nil
}

// uncompressed returns the content of a module.
func uncompressed(ctx context.Context, path string) ([]byte, error) {
	tool, compressed := map[string]string{".gz": "gzip", ".xz": "xz", ".zst": "zstd"}[filepath.Ext(path)]
	if !compressed {
		return os.ReadFile(path)
	}
	content, err := output(ctx, tool, "-dc", path)
	return []byte(content), err
}

// moduleDepends returns a module's dependencies, from its section .modinfo.
func moduleDepends(content []byte) ([]string, error) {
	file, err := elf.NewFile(strings.NewReader(string(content)))
	if err != nil {
		return nil, err
	}
	section := file.Section(".modinfo")
	if section == nil {
		return nil, errors.New("it has no section .modinfo")
	}
	info, err := section.Data()
	if err != nil {
		return nil, err
	}
	return parseModinfo(string(info)), nil
}

func parseModinfo(info string) []string {
	for field := range strings.SplitSeq(info, "\x00") {
		if names, ok := strings.CutPrefix(field, "depends="); ok && names != "" {
			return strings.Split(strings.ReplaceAll(names, "-", "_"), ",")
		}
	}
	return nil
}

// readKernels returns the cached kernels of one suite.
func readKernels(dir string) ([]kernel, error) {
	paths, err := filepath.Glob(filepath.Join(dir, kernelPrefix+"*"))
	if err != nil {
		return nil, err
	}
	var kernels []kernel
	for _, path := range paths {
		k, err := readKernel(dir, strings.TrimPrefix(filepath.Base(path), kernelPrefix))
		if err != nil {
			return nil, err
		}
		kernels = append(kernels, k)
	}
	return kernels, nil
}

func readKernel(dir, version string) (kernel, error) {
	path := filepath.Join(dir, kernelPrefix+version)
	modules, err := filepath.Glob(filepath.Join(path, "*.ko"))
	if err != nil {
		return kernel{}, err
	}
	return kernel{version: version, image: filepath.Join(path, imageName), modules: modules}, nil
}

// output runs a command and returns its standard output. The error contains its standard error.
func output(ctx context.Context, name string, args ...string) (string, error) {
	var stdout, stderr strings.Builder
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("running %s: %w: %s", strings.Join(cmd.Args, " "), err, lastLines(stderr.String(), 5))
	}
	return stdout.String(), nil
}

// tool installs a command's Debian package if the command is missing. It returns an error if the user is not root.
func tool(ctx context.Context, command, pkg string, say func(format string, args ...any)) error {
	if _, err := exec.LookPath(command); err == nil {
		return nil
	}
	install := "DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends " + pkg
	if os.Geteuid() != 0 {
		return fmt.Errorf("%s is missing: as root, run %s", command, install)
	}
	say("%s is missing: installing package %s", command, pkg)
	_, err := output(ctx, "sh", "-c", install)
	if err != nil {
		// The package index of a fresh container is empty.
		_, err = output(ctx, "sh", "-c", "apt-get update && "+install)
	}
	if err != nil {
		return fmt.Errorf("%s is missing: %w", command, err)
	}
	return nil
}

// lastLines returns the last n lines of a text at most, without trailing white space.
func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, " \r\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
