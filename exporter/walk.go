// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package exporter

import (
	"errors"
	"math/rand/v2"

	"github.com/telemetrygateway/telemetry/client"
	"github.com/telemetrygateway/telemetry/queue"
)

const (
	// step is the factor by which calls get smaller and larger again.
	step = 8
	// sampleEvents is how many events of a batch find out whether any are taken.
	sampleEvents = 32
)

// A walk goes through the queue from the oldest event to the newest, which
// takes one pass, or several if they end early. It decides how much is tried
// next, so that neither events that always fail nor one at which every call
// breaks hold up those behind them, and so that a gateway in trouble is asked
// with little.
//
// A call is in vain when it brings no final verdict on any event. After one
// that broke, the next are smaller, down to a single event; that one is then
// passed over. After one whose verdicts are all failures, its batch is passed
// over, and of the following batches a sample is sent. As soon as events are
// taken again, the walk goes back to the oldest, once, because it was most
// likely the gateway that failed and not the events.
type walk struct {
	batch   int  // events in a call when all is well
	limit   int  // the most events in a call now
	vain    int  // batches passed over since events were last taken
	rewound bool // went back to the oldest, and the oldest are still not taken
	onward  bool // the next pass goes on where this one ended
	flowing bool // the last call was not in vain
}

// begin begins at the oldest event.
func (w *walk) begin() { w.vain, w.onward, w.flowing = 0, false, false }

// end says that there are no more events.
func (w *walk) end() { w.begin(); w.rewound = false }

// ahead says whether to read ahead. If a pass ends early, what was read ahead
// has been passed over, which must not happen to the same rows again and again.
func (w *walk) ahead() bool { return w.flowing && w.limit == w.batch }

// sample splits a batch into what to send now, and what to send after that if
// it was not in vain. Another sample is taken each time, so that the same event
// does not decide about its neighbours for ever.
func (w *walk) sample(rows []queue.Row) (now, rest []queue.Row) {
	if w.vain == 0 || len(rows) <= sampleEvents {
		return rows, nil
	}
	for i, row := range rows {
		if rand.IntN(len(rows)-i) < sampleEvents-len(now) {
			now = append(now, row)
		} else {
			rest = append(rest, row)
		}
	}
	return now, rest
}

// made takes in how a call with so many events went, and says whether to go back
// to the oldest event now.
func (w *walk) made(progress bool, events int, err error) (rewind bool) {
	switch {
	case progress:
		w.limit = min(w.limit*step, w.batch)
		switch {
		case w.vain > 0 && !w.rewound:
			rewind, w.rewound = true, true
		case w.vain == 0 && !w.flowing:
			w.rewound = false
		}
		w.vain, w.onward = 0, w.rewound && !rewind && err == nil
	case err == nil:
		w.vain, w.onward = w.vain+1, true
	case !broke(err):
		// The gateway was not reached, or did not want to hear of any event.
	case events > 1:
		w.limit, w.onward = max(1, events/step), false
	default:
		w.limit, w.vain, w.onward = 1, w.vain+1, true
	}
	w.flowing = progress && !rewind
	return rewind
}

// broke says whether a call failed in a way that an event in it may have caused.
func broke(err error) bool {
	var c *client.Error
	return errors.Is(err, errSilent) ||
		errors.As(err, &c) && (c.Kind == client.Broken || c.Kind == client.NotGateway)
}
