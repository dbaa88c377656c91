// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package command

import (
	"fmt"
	"strings"
)

// didYouMean returns a question that names the candidates that word is most
// likely a slip for, each with prefix, or "" if it is like none of them.
func didYouMean(word string, candidates []string, prefix string) string {
	best, near := maxSlip(word)+1, []string(nil)
	for _, c := range candidates {
		d := distance(word, c)
		if len(word) >= 2 && strings.HasPrefix(c, word) {
			d = 1
		}
		switch {
		case d < best:
			best, near = d, []string{prefix + c}
		case d == best && near != nil:
			near = append(near, prefix+c)
		}
	}
	if near == nil {
		return ""
	}
	return fmt.Sprintf(" (did you mean %s?)", strings.Join(near, " or "))
}

// maxSlip is how many letters of word may be wrong for it to be a slip.
func maxSlip(word string) int { return min(2, len(word)/2) }

// distance counts the letters to insert, remove or replace to turn a into b,
// and counts two neighbours in the wrong order as one.
func distance(a, b string) int {
	rows := [3][]int{make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)}
	before, above, row := rows[0], rows[1], rows[2]
	for j := range above {
		above[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			replace := above[j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			row[j] = min(replace, above[j]+1, row[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, above, row = above, row, before
	}
	return above[len(b)]
}
