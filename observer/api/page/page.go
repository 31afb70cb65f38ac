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

// Package page holds the web page that the API serves at its root: what is attached, and what it measures, live. It is
// written in JavaScript in src; npm run build writes the bundle in dist, which is committed.
package page

import (
	"embed"
	"io/fs"
)

//go:embed dist
var dist embed.FS

// Files are the page's files, with index.html as the entry. They refer to each other and to the API by relative paths,
// so they may be served under any path. The page complies with the Content-Security-Policy "default-src 'self'".
var Files, _ = fs.Sub(dist, "dist") // Only an invalid path could fail.
