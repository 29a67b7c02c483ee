// SPDX-License-Identifier: Apache-2.0

package verbs

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/hfreduce/hfreduce/rdma"
)

// port is an opened port. Two ports of one device are two openings of it.
type port struct {
	endpoint
	number  int
	limits  rdma.DeviceAttr
	attr    rdma.PortAttr
	device  *rdma.Device
	pd      *rdma.PD
	events  *os.File // a duplicate of the device's descriptor, within Go's poller
	watcher sync.WaitGroup
	closing atomic.Bool
}

// openPorts opens the ports that a rank uses, in their order, or says why there are none.
func openPorts(cfg *Config) ([]*port, error) {
	if err := rdma.Available(); err != nil {
		return nil, err
	}
	infos, err := rdma.Devices()
	if err != nil {
		return nil, err
	}
	names := cfg.Devices
	if len(names) == 0 {
		for _, info := range infos {
			for n := range max(1, info.Ports) {
				names = append(names, fmt.Sprintf("%s:%d", info.Name, n+1))
			}
		}
	}
	var ports []*port
	var faults []error
	for _, name := range names {
		p, err := openPort(cfg, name)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		ports = append(ports, p)
	}
	if len(cfg.Devices) > 0 && len(faults) > 0 || len(ports) == 0 {
		return nil, errors.Join(append(faults, closePorts(ports))...)
	}
	if len(cfg.Devices) > 0 {
		return ports, nil
	}
	mine, rest := share(ports, infos, cfg)
	return mine, closePorts(rest)
}

// share picks a rank's ports: those of the devices on its NUMA node if there are any, and of these its part, so that the
// ranks that choose from the same spread over them.
func share(ports []*port, infos []rdma.DeviceInfo, cfg *Config) (mine, rest []*port) {
	near := func(p *port) bool {
		i := slices.IndexFunc(infos, func(d rdma.DeviceInfo) bool { return d.Name == p.Device })
		return cfg.NUMANode >= 0 && i >= 0 && infos[i].NUMANode == cfg.NUMANode
	}
	candidates := slices.DeleteFunc(slices.Clone(ports), func(p *port) bool { return !near(p) })
	number, sharers := cfg.Near, cfg.Nears
	if len(candidates) == 0 {
		candidates, number, sharers = slices.Clone(ports), cfg.Local, cfg.Locals
	}
	slices.SortStableFunc(candidates, func(a, b *port) int { return cmp.Compare(b.attr.Gbps, a.attr.Gbps) })
	candidates = slices.DeleteFunc(candidates, func(p *port) bool { return p.attr.Gbps < candidates[0].attr.Gbps }) // of one speed, as they take turns
	n := max(1, len(candidates)/max(1, sharers))
	for i := range n {
		mine = append(mine, candidates[(number*n+i)%len(candidates)])
	}
	return mine, slices.DeleteFunc(slices.Clone(ports), func(p *port) bool { return slices.Contains(mine, p) })
}

func closePorts(ports []*port) error {
	var errs []error
	for _, p := range ports {
		errs = append(errs, p.close())
	}
	return errors.Join(errs...)
}

// openPort opens "device" or "device:port".
func openPort(cfg *Config, name string) (p *port, err error) {
	device, number, found := strings.Cut(name, ":")
	p = &port{number: 1}
	if found {
		if p.number, err = strconv.Atoi(number); err != nil || p.number < 1 {
			return nil, fmt.Errorf("verbs: %q is not a device or device:port, e.g. mlx5_0:1", name)
		}
	}
	if p.device, err = rdma.Open(device); err != nil {
		return nil, err
	}
	if err := p.examine(cfg, device); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

// examine asks what the port is like, and makes what links need of it.
func (p *port) examine(cfg *Config, device string) (err error) {
	if p.limits, err = p.device.Attributes(); err != nil {
		return err
	}
	if p.attr, err = p.device.Port(p.number); err != nil {
		return err
	}
	p.endpoint = endpoint{Device: device, Port: p.number}
	if p.attr.State != rdma.PortActive {
		return fmt.Errorf("verbs: port %v is %v, not active", p.endpoint, p.attr.State)
	}
	if p.attr.MaxMessageBytes == 0 {
		return fmt.Errorf("verbs: port %v says that its largest message has no bytes", p.endpoint)
	}
	if p.endpoint, err = p.locate(cfg, &p.attr); err != nil {
		return err
	}
	p.pd, err = p.device.AllocPD()
	return err
}

// locate returns how the port is reached according to attr and the tables of its device.
func (p *port) locate(cfg *Config, attr *rdma.PortAttr) (e endpoint, err error) {
	e = endpoint{Device: p.Device, Port: p.number, LinkLayer: attr.LinkLayer, LID: attr.LID, MTU: attr.ActiveMTU}
	if cfg.MTU > 0 {
		e.MTU = min(e.MTU, cfg.MTU)
	}
	if e.PKey, err = p.device.PKey(p.number, cfg.PKeyIndex); err != nil {
		return e, err
	}
	table, err := p.device.GIDs(p.number)
	if err != nil {
		return e, err
	}
	e.GRH = e.LinkLayer != rdma.InfiniBand || cfg.GIDIndex >= 0 || attr.GRHRequired
	if e.GIDs = usable(table, e.LinkLayer, cfg.GIDIndex, cfg.Networks); e.GRH && len(e.GIDs) == 0 {
		return e, fmt.Errorf("verbs: port %v has no usable GID (RoCE v2 and not link-local, or the chosen index): its table is %v", e, table)
	}
	return e, nil
}

// now returns how the port is reached by a link that is made now: addresses come and go, and the entries of the GID table
// with them. While it is down that is what it was; the link is proven, or not, within Config.LostAfter.
func (p *port) now(cfg *Config) (endpoint, error) {
	attr, err := p.device.Port(p.number)
	if err != nil {
		return endpoint{}, err
	}
	if attr.State != rdma.PortActive {
		return p.endpoint, nil
	}
	return p.locate(cfg, &attr)
}

// watch hands the device's events to the transport's links until the port is closed.
func (p *port) watch(t *Transport) {
	fd, err := unix.FcntlInt(uintptr(p.device.EventFD()), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.log.Warn("verbs: events of a device are not watched", "device", p.Device, "error", err)
		return
	}
	p.events = os.NewFile(uintptr(fd), "events of "+p.Device)
	p.watcher.Go(func() {
		conn, err := p.events.SyscallConn()
		if err == nil {
			err = conn.Read(func(uintptr) bool { return p.take(t) != nil })
		}
		if err != nil && !p.closing.Load() {
			t.log.Warn("verbs: events of a device are not watched any more", "device", p.Device, "error", err)
		}
	})
}

// take takes the events that are there.
func (p *port) take(t *Transport) error {
	for {
		ev, ok, err := p.device.NextEvent()
		if err != nil || !ok {
			return err
		}
		p.heed(t, ev)
	}
}

// heed does what an event asks for.
func (p *port) heed(t *Transport, ev rdma.Event) {
	mine := ev.Port == 0 || ev.Port == p.number
	switch {
	case ev.Kind == rdma.EventDeviceFatal, ev.Kind == rdma.EventCQError: // a CQ that fails, whichever it is, gives no completions any more
		t.log.Error("verbs: a device failed", "device", p.Device, "event", ev.String())
		t.alarm(p.Device, 0, fmt.Errorf("%s: %v", p.Device, ev))
	case ev.QP != 0 && (ev.Kind == rdma.EventQPFatal || ev.Kind == rdma.EventQPRequestError || ev.Kind == rdma.EventQPAccessError):
		t.alarm(p.Device, ev.QP, fmt.Errorf("%s: %v", p.Device, ev))
	case ev.Kind == rdma.EventPortError && mine:
		t.log.Warn("verbs: a port is down: its links end if it does not come back", "port", p.String(), "within", t.cfg.LostAfter())
	case ev.Kind == rdma.EventPortActive && mine:
		t.log.Info("verbs: a port is active again", "port", p.String())
	default:
		t.log.Debug("verbs: event", "device", p.Device, "event", ev.String())
	}
}

// close closes the port when nothing is made of it any more.
func (p *port) close() error {
	var errs []error
	if p.events != nil {
		p.closing.Store(true)
		errs = append(errs, p.events.Close())
		p.watcher.Wait()
	}
	if p.pd != nil {
		errs = append(errs, p.pd.Close())
	}
	return errors.Join(append(errs, p.device.Close())...)
}
