// SPDX-License-Identifier: Apache-2.0

package bench

import "strings"

// docLimits is copyLimits in the document.
type docLimits struct {
	Ranks      int    `json:"ranks"`
	GPUs       int    `json:"gpus"`
	ChunkBytes int64  `json:"chunk_bytes"`
	ToHost     number `json:"d2h_gbps"`
	ToDevice   number `json:"h2d_gbps"`
	Both       number `json:"both_each_way_gbps"`
	PerRank    number `json:"both_each_way_per_rank_gbps"`
}

// setLimits says what copies can reach.
func (d *document) setLimits(l copyLimits) {
	d.CopyLimits = &docLimits{l.ranks, l.gpus, l.chunk, number(l.toHost), number(l.toDevice), number(l.both), number(l.both / float64(l.ranks))}
}

// docPhases is phases in the document: "d2h_us", "d2h_gbps" and so on, "call_mean_us", "call_max_us".
type docPhases map[string]number

func docPhasesOf(p *phases) docPhases {
	if p == nil {
		return nil
	}
	d := docPhases{"call_mean_us": number(p.callMean * 1e6), "call_max_us": number(p.callMax * 1e6)}
	for i, name := range phaseNames {
		d[strings.ToLower(name)+"_us"] = number(p.seconds[i] * 1e6)
		d[strings.ToLower(name)+"_gbps"] = number(p.rate(i))
	}
	return d
}
