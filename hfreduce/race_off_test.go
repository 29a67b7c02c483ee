// SPDX-License-Identifier: Apache-2.0

//go:build !race

package hfreduce

const raceEnabled = false
