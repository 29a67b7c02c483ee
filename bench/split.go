// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Split says in which group a process runs: the result of an operation on its number. The zero value puts all into one.
type Split struct {
	op      byte // '&', '|', '%', '/', or 0
	operand uint64
}

// splitOps are the operations by the two spellings that nccl-tests has for each.
var splitOps = [...]struct {
	word, sign string
}{{"AND", "&"}, {"OR", "|"}, {"MOD", "%"}, {"DIV", "/"}}

// ParseSplit reads what nccl-tests' variables say: mask (NCCL_TESTS_SPLIT_MASK) is a hexadecimal number that is ANDed
// with a process's number; text (NCCL_TESTS_SPLIT) is AND, OR, MOD, DIV or their signs &, |, %, / and a number in base
// 2 (0b), 8 (0), 10 or 16 (0x). mask wins; both empty means no split.
func ParseSplit(mask, text string) (Split, error) {
	if mask != "" {
		v, err := strconv.ParseUint(strings.TrimPrefix(strings.ToLower(mask), "0x"), 16, 32)
		if err != nil {
			return Split{}, fmt.Errorf("NCCL_TESTS_SPLIT_MASK=%q is not a hexadecimal number such as 0x7", mask)
		}
		return Split{'&', v}, nil
	}
	if text == "" {
		return Split{}, nil
	}
	return parseSplitText(text)
}

func parseSplitText(text string) (Split, error) {
	upper := strings.ToUpper(strings.TrimSpace(text))
	for _, o := range splitOps {
		rest, found := strings.CutPrefix(upper, o.word)
		if !found {
			rest, found = strings.CutPrefix(upper, o.sign)
		}
		if !found {
			continue
		}
		v, err := strconv.ParseUint(strings.ToLower(strings.TrimSpace(rest)), 0, 31)
		if err != nil {
			break
		}
		if v == 0 && (o.sign == "%" || o.sign == "/") {
			return Split{}, fmt.Errorf("NCCL_TESTS_SPLIT=%q divides by zero; give a positive number", text)
		}
		return Split{o.sign[0], v}, nil
	}
	return Split{}, fmt.Errorf("NCCL_TESTS_SPLIT=%q is not AND, OR, MOD or DIV (or & | %% /) and a number, such as \"MOD 8\"", text)
}

// Group returns the group of a process.
func (s Split) Group(process int) int {
	p := uint64(process)
	switch s.op {
	case '&':
		p &= s.operand
	case '|':
		p |= s.operand
	case '%':
		p %= s.operand
	case '/':
		p /= s.operand
	default:
		return 0
	}
	return int(min(p, math.MaxInt32))
}

// active reports whether there is more than the one group of all ranks.
func (s Split) active() bool { return s.op != 0 }
