// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"fmt"
	"net"
	"net/netip"
	"path"
	"slices"
	"strings"
)

// netInterface is a network interface that is up, with its addresses.
type netInterface struct {
	name     string
	prefixes []netip.Prefix
}

func (i netInterface) String() string {
	var b strings.Builder
	b.WriteString(i.name)
	for n, p := range i.prefixes {
		b.WriteString([...]string{" (", ", "}[min(n, 1)])
		b.WriteString(p.String())
	}
	if len(i.prefixes) > 0 {
		b.WriteByte(')')
	}
	return b.String()
}

// interfaces lists the machine's interfaces that are up, in the kernel's order.
func interfaces() ([]netInterface, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("bootstrap: list network interfaces: %w", err)
	}
	var up []netInterface
	for _, i := range all {
		if i.Flags&net.FlagUp == 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue // it went away meanwhile
		}
		n := netInterface{name: i.Name}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				n.prefixes = append(n.prefixes, netip.PrefixFrom(p.Addr().Unmap(), p.Bits()))
			}
		}
		up = append(up, n)
	}
	return up, nil
}

// filter selects by one entry of Config.Interfaces.
type filter struct {
	pattern string       // of names
	prefix  netip.Prefix // of addresses, if valid
}

func parseFilters(entries []string) ([]filter, error) {
	var filters []filter
	for _, e := range entries {
		f := filter{pattern: strings.TrimSpace(e)}
		if f.pattern == "" {
			continue
		}
		if strings.Contains(f.pattern, "/") {
			p, err := netip.ParsePrefix(f.pattern)
			if err != nil {
				return nil, fmt.Errorf("HFREDUCE_INTERFACES: %q is no prefix such as 10.1.0.0/16: %w", f.pattern, err)
			}
			f.prefix = p.Masked()
		} else if _, err := path.Match(f.pattern, ""); err != nil {
			return nil, fmt.Errorf("HFREDUCE_INTERFACES: %q is no interface name or pattern: %w", f.pattern, err)
		}
		filters = append(filters, f)
	}
	return filters, nil
}

func (f filter) matches(name string, addr netip.Addr) bool {
	if f.prefix.IsValid() {
		return f.prefix.Contains(addr)
	}
	ok, _ := path.Match(f.pattern, name) // the pattern was checked
	return ok
}

// candidates lists the addresses under which a listener bound to bound can be reached, in the interfaces' order.
// Link-local addresses are never among them: they mean nothing on another host without a zone. Loopback is; whether it
// may be used is decided when all ranks are known.
func candidates(all []netInterface, filters []filter, bound netip.AddrPort) ([]netip.AddrPort, error) {
	if !bound.Addr().IsUnspecified() {
		return []netip.AddrPort{netip.AddrPortFrom(bound.Addr().Unmap(), bound.Port())}, nil
	}
	var found []netip.AddrPort
	for _, i := range all {
		for _, p := range i.prefixes {
			a := p.Addr()
			if a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified() || a.Is6() && bound.Addr().Is4() {
				continue
			}
			if len(filters) == 0 || slices.ContainsFunc(filters, func(f filter) bool { return f.matches(i.name, a) }) {
				found = append(found, netip.AddrPortFrom(a, bound.Port()))
			}
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("bootstrap: no usable address%s; this machine has %s", filterText(filters), listInterfaces(all))
	}
	return found, nil
}

func filterText(filters []filter) string {
	if len(filters) == 0 {
		return ""
	}
	names := make([]string, len(filters))
	for i, f := range filters {
		names[i] = f.pattern
	}
	return " on the interfaces of HFREDUCE_INTERFACES=" + strings.Join(names, ",")
}

func listInterfaces(all []netInterface) string {
	if len(all) == 0 {
		return "no interface that is up"
	}
	names := make([]string, len(all))
	for i, n := range all {
		names[i] = n.String()
	}
	return strings.Join(names, "; ")
}
