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
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/linker"
	"github.com/bufbuild/protocompile/protoutil"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

// plugins are run as tools of this module, which pins their versions, with the options that upstream gives them.
var plugins = []struct{ tool, options string }{
	{"protoc-gen-go", "paths=source_relative"},
	{"protoc-gen-go-grpc", "paths=source_relative"},
	{"protoc-gen-grpc-gateway", "paths=source_relative"},
	{"protoc-gen-validate", "lang=go,paths=source_relative"},
}

// generateAPI generates the Go code of every proto file below root, beside the file itself.
// Imports are looked up in root first and in the include folders then.
func generateAPI(ctx context.Context, root string, include []string) error {
	files, err := protoFiles(root)
	if err != nil {
		return fmt.Errorf("looking for proto files: %w", err)
	}
	if len(files) == 0 {
		return fmt.Errorf("no proto file below %s", root)
	}
	compiler := protocompile.Compiler{
		Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{
			ImportPaths: append([]string{root}, include...),
		}),
		// Comments of the proto files become comments of the Go code.
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	compiled, err := compiler.Compile(ctx, files...)
	if err != nil {
		return fmt.Errorf("compiling the proto files: %w", err)
	}
	request := &pluginpb.CodeGeneratorRequest{FileToGenerate: files, ProtoFile: withImports(compiled)}
	for _, plugin := range plugins {
		request.Parameter = proto.String(plugin.options)
		if err = generate(ctx, plugin.tool, request, root); err != nil {
			return fmt.Errorf("%s: %w", plugin.tool, err)
		}
	}
	return nil
}

// protoFiles returns the slash separated paths, relative to root, of the proto files below root in lexical order.
func protoFiles(root string) ([]string, error) {
	var files []string
	err := fs.WalkDir(os.DirFS(root), ".", func(path string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".proto") {
			files = append(files, path)
		}
		return err
	})
	return files, err
}

// withImports returns the files and all that they import, each after its own imports, as plugins expect them.
func withImports(files linker.Files) []*descriptorpb.FileDescriptorProto {
	var ordered []*descriptorpb.FileDescriptorProto
	seen := make(map[string]bool)
	var add func(protoreflect.FileDescriptor)
	add = func(file protoreflect.FileDescriptor) {
		if seen[file.Path()] {
			return
		}
		seen[file.Path()] = true
		for i := range file.Imports().Len() {
			add(file.Imports().Get(i).FileDescriptor)
		}
		ordered = append(ordered, protoutil.ProtoFromFileDescriptor(file))
	}
	for _, file := range files {
		add(file)
	}
	return ordered
}

// generate lets one plugin answer the request and writes the files of its answer below dir.
func generate(ctx context.Context, tool string, request *pluginpb.CodeGeneratorRequest, dir string) error {
	input, err := proto.Marshal(request)
	if err != nil {
		return fmt.Errorf("encoding the request: %w", err)
	}
	var output, complaint bytes.Buffer
	cmd := exec.CommandContext(ctx, "go", "tool", tool)
	cmd.Env = append(os.Environ(), "GOWORK=off")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &output, &complaint
	if err = cmd.Run(); err != nil {
		return fmt.Errorf("running it: %w\n%s", err, complaint.Bytes())
	}
	var answer pluginpb.CodeGeneratorResponse
	if err = proto.Unmarshal(output.Bytes(), &answer); err != nil {
		return fmt.Errorf("decoding its answer: %w", err)
	}
	if answer.Error != nil {
		return errors.New(answer.GetError())
	}
	for _, file := range answer.GetFile() {
		path, locErr := filepath.Localize(file.GetName())
		if locErr != nil {
			return fmt.Errorf("file %q of its answer: %w", file.GetName(), locErr)
		}
		if err = writeFile(filepath.Join(dir, path), []byte(file.GetContent())); err != nil {
			return err
		}
	}
	return nil
}
