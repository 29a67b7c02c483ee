// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strconv"

	"github.com/hfreduce/hfreduce/bench"
	"github.com/hfreduce/hfreduce/hfreduce"
)

// The values of flags that are more than a number. Each is read by kong through UnmarshalText.

// size is a number of bytes.
type size int64

func (s *size) UnmarshalText(text []byte) error {
	v, err := bench.ParseSize(string(text))
	*s = size(v)
	return err
}

// types is a data type, or all of them.
type types struct{ list []hfreduce.DataType }

func (t *types) UnmarshalText(text []byte) (err error) {
	t.list, err = bench.ParseTypes(string(text))
	return err
}

// ops is an operator, or all of them.
type ops struct{ list []bench.Op }

func (o *ops) UnmarshalText(text []byte) (err error) {
	o.list, err = bench.ParseOps(string(text))
	return err
}

// root is a rank, or all of them.
type root int

func (r *root) UnmarshalText(text []byte) error {
	if s := string(text); s == "all" || s == "-1" {
		*r = bench.AllRoots
		return nil
	}
	v, err := strconv.Atoi(string(text))
	if err != nil || v < 0 {
		return fmt.Errorf("%q is not a rank; give a number from 0 up, or all", text)
	}
	*r = root(v)
	return nil
}

// onOff is a flag with the value 0 or 1.
type onOff bool

func (b *onOff) UnmarshalText(text []byte) error {
	switch string(text) {
	case "0":
		*b = false
	case "1":
		*b = true
	default:
		return fmt.Errorf("%q is neither 0 nor 1", text)
	}
	return nil
}
