// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"text/template"
)

// Measures of the chart, in its own units.
const (
	chartWidth   = 760
	chartLeft    = 96  // where bars begin
	chartLongest = 400 // bar
	chartTop     = 72
	chartStep    = 22 // from one bar to the next
	chartHead    = 24 // of a group
	chartGap     = 10 // from one group to the next
	chartBottom  = 30
)

// A chartGroup is the bars that are compared with each other. The longest of
// them has the full length, and the first is what the others are ratios of.
type chartGroup struct {
	What, Title string
	Who         []string
	Y           int
	Bars        []chartBar
}

type chartBar struct {
	Who, Label string
	Y          int
	Width      float64
}

func chartGroups() []chartGroup {
	served := []string{"obvious", "gateway", "floor"}
	// The floor of encoding is to copy: next to it, no bar could be seen.
	encoded := []string{"obvious", "gateway"}
	return []chartGroup{
		{What: "discard", Title: "The gateway: gRPC in, nothing out", Who: served},
		{What: "pubsub", Title: "The gateway: gRPC in, Pub/Sub protocol out", Who: served},
		{What: "sqlite", Title: "The gateway: gRPC in, each event on disk in SQLite", Who: []string{"gateway", "floor"}},
		{What: "encode", Title: "The encoder: test mix", Who: encoded},
		{What: "encode-small", Title: "The encoder: small events", Who: encoded},
		{What: "encode-large", Title: "The encoder: large events", Who: encoded},
		{What: "encode-private", Title: "The encoder: mostly private metadata", Who: encoded},
	}
}

// chart draws how many events a second of one processor's time is good for: a
// self-contained SVG without scripts, for light and dark surroundings.
func (r *report) chart() ([]byte, error) {
	m := r.Machine
	chart := struct {
		Width, Height, Left int
		Spoken, About       string
		Groups              []chartGroup
	}{
		Width: chartWidth, Left: chartLeft,
		About: fmt.Sprintf("%s, %d processors, %s, commit %s. Medians; each group has a scale of its own.", m.CPU, m.Cores, m.Go, m.Commit),
	}
	y := chartTop
	var spoken []string
	for _, g := range chartGroups() {
		if !r.drawGroup(&g, y) {
			continue
		}
		chart.Groups = append(chart.Groups, g)
		y = g.Bars[len(g.Bars)-1].Y + chartStep + chartGap
		for _, b := range g.Bars {
			spoken = append(spoken, fmt.Sprintf("%s, %s: %s.", g.Title, b.Who, b.Label))
		}
	}
	if len(spoken) == 0 {
		return nil, errors.New("nothing was measured that the chart shows; measure discard/, pubsub/, sqlite/ or encode/")
	}
	chart.Height, chart.Spoken = y+chartBottom, strings.Join(spoken, " ")
	var b bytes.Buffer
	err := template.Must(template.New("chart").Parse(chartSVG)).Execute(&b, chart)
	return b.Bytes(), err
}

// drawGroup puts the bars of a group in place, from y on. It returns false if
// what they are ratios of was not measured.
func (r *report) drawGroup(g *chartGroup, y int) bool {
	first := r.row(g.What + "/" + g.Who[0])
	longest := 0.0
	for _, who := range g.Who {
		longest = max(longest, r.row(g.What+"/"+who).perCoreSecond())
	}
	g.Y = y
	y += chartHead
	for _, who := range g.Who {
		row := r.row(g.What + "/" + who)
		if row == nil {
			continue
		}
		events := row.perCoreSecond()
		label := roundly(events) + " events"
		if row != first {
			label += fmt.Sprintf(", %s× %s", figure(ratio(first, row).Median), g.Who[0])
		}
		g.Bars = append(g.Bars, chartBar{who, label, y, math.Round(events/longest*chartLongest*10) / 10})
		y += chartStep
	}
	return first != nil
}

// perCoreSecond is how many events a second of one processor's time is good for.
func (r *row) perCoreSecond() float64 {
	if cpu := r.spread(sample.cpu).Median; cpu > 0 {
		return 1e6 / cpu
	}
	return 0
}

// roundly writes a large number with three digits that matter.
func roundly(v float64) string {
	scale := math.Pow(10, math.Max(0, math.Floor(math.Log10(max(v, 1)))-2))
	return thousands(int(math.Round(v/scale) * scale))
}

const chartSVG = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {{.Width}} {{.Height}}" width="{{.Width}}" height="{{.Height}}" role="img" aria-labelledby="title desc">
<title id="title">Events per second of one processor's time</title>
<desc id="desc">{{html .Spoken}}</desc>
<style>
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .title { font-size: 17px; font-weight: 600 } .group { font-weight: 600 } .about { font-size: 11px; fill: #59636e }
  .page { fill: #fff } .obvious { fill: #9a6700 } .gateway { fill: #0969da } .floor { fill: #818b98 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc } .about { fill: #9198a1 }
    .page { fill: #0d1117 } .obvious { fill: #d29922 } .gateway { fill: #4493f8 } .floor { fill: #656c76 }
  }
</style>
<rect class="page" width="100%" height="100%"/>
<text class="title" x="16" y="30">Events per second of one processor's time</text>
<text class="about" x="16" y="50">obvious: the way that first comes to mind. floor: the same bytes received and passed on, not encoded.</text>
{{range .Groups}}<text class="group" x="16" y="{{.Y}}" dy="14">{{.Title}}</text>
{{range .Bars}}<text x="{{$.Left}}" y="{{.Y}}" dx="-8" dy="13" text-anchor="end">{{.Who}}</text><rect class="{{.Who}}" x="{{$.Left}}" y="{{.Y}}" width="{{.Width}}" height="17"/><text x="{{$.Left}}" y="{{.Y}}" dx="{{.Width}}" dy="13">&#160;&#160;{{.Label}}</text>
{{end}}{{end}}<text class="about" x="16" y="{{.Height}}" dy="-12">{{html .About}}</text>
</svg>
`
