// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/rand"
	"errors"
	"slices"
	"sync"
)

// polls is the product: questions that anybody asks and answers. This file
// knows nothing of HTTP nor of telemetry. It keeps everything in memory, because
// it is an example.
type polls struct {
	mu  sync.Mutex
	all []*poll // newest first
}

const maxPolls = 100 // the oldest one makes room

type poll struct {
	id, question string
	answers      []string
	votes        map[string]int // visitor → answer
}

// pollView is a poll as one visitor sees it.
type pollView struct {
	ID       string   `json:"id"`
	Question string   `json:"question"`
	Answers  []string `json:"answers"`
	Votes    []int    `json:"votes"`
	Yours    int      `json:"yours"` // the answer that this visitor gave, or -1
}

// newPolls has a first poll, so that there is something to click.
func newPolls() *polls {
	s := &polls{}
	s.ask("What do we cook on Friday?", []string{"Ramen", "Flammkuchen", "Whatever is left in the fridge"})
	return s
}

func (s *polls) list(visitor string) []pollView {
	s.mu.Lock()
	defer s.mu.Unlock()
	views := make([]pollView, 0, len(s.all))
	for _, p := range s.all {
		views = append(views, p.view(visitor))
	}
	return views
}

func (s *polls) ask(question string, answers []string) pollView {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &poll{id: rand.Text()[:10], question: question, answers: answers, votes: map[string]int{}}
	s.all = slices.Insert(s.all, 0, p)
	s.all = s.all[:min(len(s.all), maxPolls)]
	return p.view("")
}

// vote counts a visitor's vote in place of the one before, if there was one.
func (s *polls) vote(id, visitor string, answer int) (view pollView, changed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.all, func(p *poll) bool { return p.id == id && answer >= 0 && answer < len(p.answers) })
	if i < 0 {
		return pollView{}, false, errors.New("there is no such poll, or it has no such answer")
	}
	_, changed = s.all[i].votes[visitor]
	s.all[i].votes[visitor] = answer
	return s.all[i].view(visitor), changed, nil
}

func (p *poll) view(visitor string) pollView {
	v := pollView{ID: p.id, Question: p.question, Answers: p.answers, Votes: make([]int, len(p.answers)), Yours: -1}
	for voter, answer := range p.votes {
		v.Votes[answer]++
		if voter == visitor {
			v.Yours = answer
		}
	}
	return v
}
