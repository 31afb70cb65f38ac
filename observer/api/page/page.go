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

// Package page is the web page that the API serves at its root: what is attached, and what it measures, live. It is
// written in JavaScript in src, and npm run build makes of it the bundle in dist, which is committed.
package page

import (
	"embed"
	"io/fs"
)

//go:embed dist
var dist embed.FS

// Files are those of the page, index.html first of all. They name each other and the API by relative paths, so that they may be served
// under any. The page keeps to the Content-Security-Policy "default-src 'self'".
var Files, _ = fs.Sub(dist, "dist") // Only a name that is no path could fail.
