// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"fmt"
	"strings"
)

// firstHost returns the first name of a list of hosts as Slurm writes it, such as "gpu[08-11,20]-ib0,login1".
func firstHost(list string) (string, error) {
	var host strings.Builder
	for rest := list; ; {
		i := strings.IndexAny(rest, "[,")
		if i < 0 {
			host.WriteString(rest)
			break
		}
		host.WriteString(rest[:i])
		if rest[i] == ',' {
			break
		}
		numbers, after, found := strings.Cut(rest[i+1:], "]")
		first := numbers[:len(numbers)-len(strings.TrimLeft(numbers, "0123456789"))]
		if !found || first == "" {
			return "", fmt.Errorf("%q is no list of hosts such as node[01-04,09]", list)
		}
		host.WriteString(first)
		rest = after
	}
	if host.Len() == 0 || strings.ContainsAny(host.String(), "] \t\n") {
		return "", fmt.Errorf("%q is no list of hosts such as node[01-04,09]", list)
	}
	return host.String(), nil
}
