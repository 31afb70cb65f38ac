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

package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
	"github.com/apache/skywalking-banyandb/ebpf/observer/api/page"
)

// maxBody bounds what a client may send, in bytes.
const maxBody = 64 << 10

// contentPolicy lets the page load only its own files, and nobody frame it.
const contentPolicy = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// failure is the response to a refused request: JSON, and a status.
type failure struct {
	err    error
	remedy string
	status int
}

func (f *failure) Error() string { return f.err.Error() }

func fail(status int, format string, args ...any) *failure {
	return &failure{status: status, err: fmt.Errorf(format, args...)}
}

// route holds the handlers of one path. Either may be nil.
type route struct {
	get  func(w http.ResponseWriter, r *http.Request) error
	post func(w http.ResponseWriter, r *http.Request) error
}

// routes returns the paths that have data. All others are the page's.
func (a *API) routes() map[string]route {
	return map[string]route{
		"/metrics":              {get: a.getMetrics},
		"/health":               {get: a.getHealth},
		"/api/v1/stats":         {get: a.getStats},
		"/api/v1/queries":       {get: a.getQueries},
		"/api/v1/config":        {get: a.getConfig, post: a.postConfig},
		"/api/v1/config/reload": {post: a.postReload},
	}
}

// Handler returns the handler of all paths. To mount it below a path other than /, strip that path first.
func (a *API) Handler() http.Handler {
	return a.handler(func(http.ResponseWriter, *http.Request) error { return nil })
}

// handler calls guard for each request for data. The page is not guarded.
func (a *API) handler(guard func(w http.ResponseWriter, r *http.Request) error) http.Handler {
	routes, files := a.routes(), page.Files
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", contentPolicy)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("X-Frame-Options", "DENY")
		w.Header().Set("Referrer-Policy", "no-referrer")
		asked, ok := routes[r.URL.Path]
		var err error
		if ok {
			w.Header().Set("Cache-Control", "no-store")
			if err = guard(w, r); err == nil {
				err = asked.serve(w, r)
			}
		} else {
			err = servePage(w, r, files)
		}
		if err != nil {
			answerError(w, err)
		}
	})
}

func (t route) serve(w http.ResponseWriter, r *http.Request) error {
	switch {
	case t.get != nil && isGet(r):
		return t.get(w, r)
	case t.post != nil && r.Method == http.MethodPost:
		if err := checkPost(r); err != nil {
			return err
		}
		return t.post(w, r)
	}
	var allowed []string
	if t.get != nil {
		allowed = append(allowed, http.MethodGet, http.MethodHead)
	}
	if t.post != nil {
		allowed = append(allowed, http.MethodPost)
	}
	return notAllowed(w, r, allowed...)
}

func isGet(r *http.Request) bool { return r.Method == http.MethodGet || r.Method == http.MethodHead }

func notAllowed(w http.ResponseWriter, r *http.Request, allowed ...string) error {
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	return fail(http.StatusMethodNotAllowed, "%s is not allowed here, only %s", r.Method, strings.Join(allowed, ", "))
}

// checkPost refuses what a browser may send for another site.
func checkPost(r *http.Request) error {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return fail(http.StatusUnsupportedMediaType, "the Content-Type is %q, not application/json", r.Header.Get("Content-Type"))
	}
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		return fail(http.StatusForbidden, "the request comes from another site: %w", err)
	}
	return nil
}

// servePage serves a file of the page. Folders are not listed.
func servePage(w http.ResponseWriter, r *http.Request, files fs.FS) error {
	name := strings.TrimPrefix(path.Clean(r.URL.Path), "/")
	if r.URL.Path == "/" || r.URL.Path == "" {
		name = "index.html"
	}
	info, err := fs.Stat(files, name)
	if err != nil || !info.Mode().IsRegular() {
		return fail(http.StatusNotFound, "there is no %s", r.URL.Path)
	}
	if !isGet(r) {
		return notAllowed(w, r, http.MethodGet, http.MethodHead)
	}
	file, err := files.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	content, ok := file.(io.ReadSeeker)
	if !ok {
		return fmt.Errorf("file %s of the page is not seekable", name)
	}
	w.Header().Set("Cache-Control", "no-cache")
	http.ServeContent(w, r, name, info.ModTime(), content)
	return nil
}

// getMetrics answers in the format that the client prefers.
func (a *API) getMetrics(w http.ResponseWriter, r *http.Request) error {
	families, err := a.registry.Gather()
	if err != nil {
		return err
	}
	gathered := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return families, nil })
	promhttp.HandlerFor(gathered, promhttp.HandlerOpts{EnableOpenMetrics: true}).ServeHTTP(w, r)
	return nil
}

func (a *API) getHealth(w http.ResponseWriter, _ *http.Request) error {
	h := a.health()
	status := http.StatusOK
	if h.Status != statusUp {
		status = http.StatusServiceUnavailable
	}
	answer(w, status, h)
	return nil
}

func (a *API) getStats(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	for name := range query {
		if name != "module" && name != "name" {
			return fail(http.StatusBadRequest, "there is no parameter %q, only module and name", name)
		}
	}
	s, err := a.stats(filter{modules: query["module"], names: query["name"]}, new(observer.Snapshot))
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, s)
	return nil
}

func (a *API) getConfig(w http.ResponseWriter, _ *http.Request) error {
	answer(w, http.StatusOK, a.configuration())
	return nil
}

func (a *API) postConfig(w http.ResponseWriter, r *http.Request) error {
	if a.control == nil {
		return &failure{status: http.StatusForbidden, err: errReadOnly}
	}
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	if !json.Valid(body) {
		return fail(http.StatusBadRequest, "%w: the body is not JSON", observer.ErrInvalidConfig)
	}
	if err = a.change(r.Context(), body); err != nil {
		return err
	}
	return a.getConfig(w, r)
}

func (a *API) postReload(w http.ResponseWriter, r *http.Request) error {
	if a.control == nil {
		return &failure{status: http.StatusForbidden, err: errReadOnly}
	}
	if _, err := readBody(w, r); err != nil {
		return err
	}
	err := fmt.Errorf("there is no configuration file: %w", errors.ErrUnsupported)
	if control, ok := a.control.(reloader); ok {
		err = control.Reload(r.Context())
	}
	if err != nil {
		// The request was right, the file is not.
		if statusOf(err) == http.StatusBadRequest {
			return &failure{status: http.StatusUnprocessableEntity, err: err}
		}
		return err
	}
	return a.getConfig(w, r)
}

func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, fail(http.StatusRequestEntityTooLarge, "the body is larger than %d bytes", tooLarge.Limit)
	case err != nil:
		return nil, fail(http.StatusBadRequest, "reading the body: %w", err)
	}
	return body, nil
}

func answer(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false) // It is not HTML, and people read it.
	// A client that is gone needs no answer, and an encoding error comes too late for one.
	_ = encoder.Encode(value) //nolint:errchkjson // see above
}

func answerError(w http.ResponseWriter, err error) {
	var f *failure
	if !errors.As(err, &f) {
		f = &failure{err: err, status: statusOf(err), remedy: kprobe.Remedy(err)}
	}
	if f.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	answer(w, f.status, struct {
		Error  string `json:"error"`
		Remedy string `json:"remedy"`
	}{f.Error(), f.remedy})
}

// statusOf returns the HTTP status for an error of the source or the control.
func statusOf(err error) int {
	is := func(target error) bool { return errors.Is(err, target) }
	switch {
	case is(observer.ErrInvalidConfig), is(observer.ErrUnknownModule), is(observer.ErrUnknownHook):
		return http.StatusBadRequest
	case is(errors.ErrUnsupported):
		return http.StatusNotImplemented
	case is(observer.ErrClosed):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}
