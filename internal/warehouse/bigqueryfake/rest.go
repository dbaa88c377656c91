// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package bigqueryfake

import (
	"encoding/json"
	"errors"
	"net/http"

	bigquery "google.golang.org/api/bigquery/v2"
)

// rest is the REST API, under the same path as the service's. Queries run while
// everything else goes on.
func (s *Server) rest() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, f func(n tableName, r *http.Request) (any, error)) {
		mux.HandleFunc(pattern, s.answer(func(r *http.Request) (any, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			return f(tableName{r.PathValue("project"), r.PathValue("dataset"), r.PathValue("table")}, r)
		}))
	}
	const project = "/bigquery/v2/projects/{project}"
	handle("GET "+project+"/datasets/{dataset}", func(n tableName, _ *http.Request) (any, error) {
		return s.getDataset(n)
	})
	handle("GET "+project+"/datasets/{dataset}/tables/{table}", func(n tableName, _ *http.Request) (any, error) {
		return s.getTable(n)
	})
	handle("POST "+project+"/datasets/{dataset}/tables", func(n tableName, r *http.Request) (any, error) {
		var meta bigquery.Table
		if err := json.NewDecoder(r.Body).Decode(&meta); err != nil {
			return nil, invalid("%v", err)
		}
		return s.createTable(n, &meta)
	})
	handle("PATCH "+project+"/datasets/{dataset}/tables/{table}", func(n tableName, r *http.Request) (any, error) {
		var patch bigquery.Table
		if err := json.NewDecoder(r.Body).Decode(&patch); err != nil {
			return nil, invalid("%v", err)
		}
		return s.patchTable(n, r.Header.Get("If-Match"), &patch)
	})
	mux.HandleFunc("POST "+project+"/jobs", s.answer(func(r *http.Request) (any, error) {
		var j bigquery.Job
		if err := json.NewDecoder(r.Body).Decode(&j); err != nil {
			return nil, invalid("%v", err)
		}
		return s.insertJob(r.Context(), r.PathValue("project"), &j)
	}))
	handle("GET "+project+"/queries/{job}", func(_ tableName, r *http.Request) (any, error) {
		return s.page(r.PathValue("job"), r.URL.Query().Get("pageToken"), r.URL.Query().Get("maxResults"))
	})
	handle("POST "+project+"/jobs/{job}/cancel", func(_ tableName, r *http.Request) (any, error) {
		delete(s.jobs, r.PathValue("job"))
		return &bigquery.JobCancelResponse{}, nil
	})
	handle("/", func(_ tableName, r *http.Request) (any, error) {
		return nil, &apiError{http.StatusNotImplemented, "notImplemented", "this fake has no " + r.Method + " " + r.URL.Path}
	})
	return mux
}

// answer makes a handler of f, which says what to answer, or an error.
func (s *Server) answer(f func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, r.Method+" "+r.URL.Path)
		s.mu.Unlock()
		answer, err := f(r)
		w.Header().Set("Content-Type", "application/json")
		if err != nil {
			status, body := errorBody(err)
			w.WriteHeader(status)
			answer = body
		}
		json.NewEncoder(w).Encode(answer) // an error means that nobody listens
	}
}

func errorBody(err error) (int, any) {
	api := &apiError{http.StatusInternalServerError, "internalError", err.Error()}
	errors.As(err, &api)
	type item struct {
		Message string `json:"message"`
		Domain  string `json:"domain"`
		Reason  string `json:"reason"`
	}
	return api.status, map[string]any{"error": map[string]any{
		"code":    api.status,
		"message": api.message,
		"errors":  []item{{api.message, "global", api.reason}},
	}}
}
