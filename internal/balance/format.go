// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"
)

// WriteTable writes the report for people.
func (r *Report) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SENDER\tDAY\tACCEPTED\tREPLAYED\tLANDED\tDUPLICATES\tREJECTED\tIN FLIGHT\tBALANCE")
	for i := range r.Lines {
		l := &r.Lines[i]
		accepted, replayed := "?", "?"
		if l.Known {
			accepted, replayed = strconv.FormatInt(l.Accepted, 10), strconv.FormatInt(l.Replayed, 10)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%d\t%s\t%d\t%s\n", printable(l.Identity), cmp.Or(l.Day, "-"),
			accepted, replayed, l.Landed, l.Duplicates, l.rejected(), l.InFlight, l.verdict())
	}
	err := t.Flush()
	for _, note := range r.Notes {
		if err == nil {
			_, err = fmt.Fprintf(w, "note: %s\n", note)
		}
	}
	return err
}

// rejected is how many were, and in brackets for which reasons.
func (l *Line) rejected() string {
	sum, reasons := int64(0), []string(nil)
	for _, reason := range slices.Sorted(maps.Keys(l.Rejected)) {
		sum += l.Rejected[reason]
		reasons = append(reasons, fmt.Sprintf("%s %d", reason, l.Rejected[reason]))
	}
	if sum == 0 {
		return "0"
	}
	return fmt.Sprintf("%d (%s)", sum, strings.Join(reasons, ", "))
}

func (l *Line) verdict() string {
	switch {
	case !l.Known:
		return "accepted: no longer known"
	case l.Missing > 0:
		return fmt.Sprintf("%d MISSING in the warehouse", l.Missing)
	case l.Missing < 0:
		return fmt.Sprintf("%d TOO MANY in the warehouse", -l.Missing)
	}
	return "adds up"
}

// printable is s, or s quoted if it could spoil a terminal: a sender chose it.
func printable(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsGraphic(r) || r == unicode.ReplacementChar }) {
		return strconv.QuoteToGraphic(s)
	}
	return cmp.Or(s, "-")
}

// WriteJSON writes an object a line, and then one for each note.
func (r *Report) WriteJSON(w io.Writer) error {
	lines := json.NewEncoder(w)
	lines.SetEscapeHTML(false)
	for i := range r.Lines {
		l := &r.Lines[i]
		out := struct {
			Identity   string           `json:"identity"`
			Day        string           `json:"day"`
			Accepted   *int64           `json:"accepted"`
			Replayed   *int64           `json:"replayed"`
			Landed     int64            `json:"landed"`
			Duplicates int64            `json:"duplicates"`
			Rejected   map[string]int64 `json:"rejected"`
			InFlight   int64            `json:"in_flight"`
			Missing    *int64           `json:"missing"`
		}{Identity: l.Identity, Day: l.Day, Landed: l.Landed, Duplicates: l.Duplicates, Rejected: l.Rejected, InFlight: l.InFlight}
		if l.Known {
			out.Accepted, out.Replayed, out.Missing = &l.Accepted, &l.Replayed, &l.Missing
		}
		if err := lines.Encode(out); err != nil {
			return err
		}
	}
	for _, note := range r.Notes {
		if err := lines.Encode(struct {
			Note string `json:"note"`
		}{note}); err != nil {
			return err
		}
	}
	return nil
}
