// SPDX-License-Identifier: Apache-2.0

package tune

import (
	"fmt"
	"slices"
)

const (
	kib = 1 << 10
	mib = 1 << 20
)

// The environment variables under test.
const (
	OnePass = "HFREDUCE_ONE_PASS_BYTES"
	Chunk   = "HFREDUCE_CHUNK_BYTES"
	Slots   = "HFREDUCE_SLOTS"
)

// Always is the index of the choice in OnePassQuestion that adds all buffers in one pass.
const Always = 0

// Slack is the difference of two times that counts as noise.
const Slack = 0.05

// OnePassQuestion asks up to which size each rank of a node should add all inputs itself.
func OnePassQuestion() Question {
	q := Question{Title: "one pass or pipeline", Choices: []Choice{
		Always: {"one pass", []string{fmt.Sprintf("%s=%d", OnePass, 256*kib)}},
		{"pipeline", []string{OnePass + "=0"}},
	}}
	for size := int64(kib); size <= 256*kib; size *= 2 {
		q.Sizes = append(q.Sizes, size)
	}
	return q
}

// PipelineQuestion asks for the size of a chunk and the number of slots, at the largest size, at an eighth of it, and so on down to
// 256 KiB at least.
func PipelineQuestion(largest int64) Question {
	q := Question{Title: "chunk x slots"}
	for size := max(largest, 256*kib); size >= 256*kib; size = size / 8 / kib * kib {
		q.Sizes = append(q.Sizes, size)
	}
	slices.Reverse(q.Sizes)
	for _, c := range []struct{ chunk, slots int }{{64 * kib, 8}, {128 * kib, 8}, {256 * kib, 4}, {256 * kib, 8}, {512 * kib, 4}, {512 * kib, 8}, {mib, 4}} {
		q.Choices = append(q.Choices, Choice{
			Name: fmt.Sprintf("%dK x %d", c.chunk/kib, c.slots),
			Env:  []string{fmt.Sprintf("%s=%d", Chunk, c.chunk), fmt.Sprintf("%s=%d", Slots, c.slots)},
		})
	}
	return q
}
