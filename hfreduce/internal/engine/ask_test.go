// SPDX-License-Identifier: Apache-2.0

package engine

import "testing"

// TestEveryQuestionIsAnswered: of two that ask before the rank looks up, as when two communicators are judged at once, both hear.
func TestEveryQuestionIsAnswered(t *testing.T) {
	e := newStepped(t, []int{0, 0}, 4, 1<<10, 1<<10, false).engines[0]
	e.Enter(7)
	first, second := e.Ask(), e.Ask()
	if err := e.attend(e.attention.Load()); err != nil {
		t.Fatal(err)
	}
	for i, answer := range []<-chan Position{first, second} {
		select {
		case p := <-answer:
			if p.Call != 7 {
				t.Errorf("question %d: %+v", i, p)
			}
		default:
			t.Errorf("question %d was not answered", i)
		}
	}
	if e.attention.Load() != 0 || e.asked.Load() != nil {
		t.Error("something is left to be answered")
	}
}
