// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/telemetrygateway/telemetry"
)

// api is what the page asks of the product. What happens here is recorded here:
// the backend knows that a vote was counted, and the page only that somebody
// clicked.
type api struct {
	polls    *polls
	recorder *telemetry.Recorder
}

func (a *api) handle(mux *http.ServeMux) {
	mux.HandleFunc("GET /api/polls", func(w http.ResponseWriter, r *http.Request) { reply(w, a.polls.list(visitorOf(r))) })
	mux.HandleFunc("POST /api/polls", a.ask)
	mux.HandleFunc("PUT /api/polls/{id}/vote", a.vote)
}

func (a *api) ask(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		Question string
		Answers  []string
	}
	ok := read(w, r, &asked) && isText(asked.Question) && len(asked.Answers) >= 2 && len(asked.Answers) <= 6
	for _, answer := range asked.Answers {
		ok = ok && isText(answer)
	}
	if !ok {
		http.Error(w, "a poll has a question and two to six answers, none of them empty or very long", http.StatusBadRequest)
		return
	}
	poll := a.polls.ask(asked.Question, asked.Answers)
	// Feature, action and keys are constants: what a person wrote does not compile
	// there. Metadata are numbers, so nothing that was written is in them either;
	// whatever is more than a number is private metadata. TryRecord never fails
	// the request.
	a.recorder.TryRecord(r.Context(), "poll", "asked", telemetry.Params{
		Metadata:        telemetry.Metadata{"answers": telemetry.Number(len(poll.Answers))},
		PrivateMetadata: telemetry.PrivateMetadata{"poll": poll.ID},
	})
	reply(w, poll)
}

func (a *api) vote(w http.ResponseWriter, r *http.Request) {
	var vote struct{ Answer *int }
	if !read(w, r, &vote) || vote.Answer == nil {
		http.Error(w, "a vote has the number of an answer", http.StatusBadRequest)
		return
	}
	poll, changed, err := a.polls.vote(r.PathValue("id"), visitorOf(r), *vote.Answer)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	a.recorder.TryRecord(r.Context(), "poll.vote", "counted", telemetry.Params{
		Metadata:        telemetry.Metadata{"answer": telemetry.Number(*vote.Answer), "changed": telemetry.Bool(changed)},
		PrivateMetadata: telemetry.PrivateMetadata{"poll": poll.ID},
		Billing:         telemetry.Billing{Product: "polls", Category: "votes"},
	})
	reply(w, poll)
}

func read(w http.ResponseWriter, r *http.Request, into any) bool {
	return json.NewDecoder(http.MaxBytesReader(w, r.Body, 16<<10)).Decode(into) == nil
}

func reply(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store") // how somebody voted is for nobody else
	_ = json.NewEncoder(w).Encode(value)        // whoever asked may be gone
}

func isText(s string) bool { return strings.TrimSpace(s) != "" && len(s) <= 500 }
