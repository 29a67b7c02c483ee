// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/hello"
)

// Join meets the other ranks: it blocks until all WorldSize ranks have called it, until Config.Timeout or ctx ends
// (ErrTimeout, or ctx's cause), or until the ranks turn out to disagree (ErrMismatch). All errors say what to do.
func Join(ctx context.Context, cfg Config) (*Session, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	if cfg.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, cfg.Timeout, fmt.Errorf("%w after %v", ErrTimeout, cfg.Timeout))
		defer cancel()
	}
	j := joining{cfg: cfg, begin: time.Now()}
	s, err := j.run(ctx)
	if err != nil {
		j.undo()
		return nil, err
	}
	return s, nil
}

// joining is one call of Join.
type joining struct {
	cfg      Config
	begin    time.Time
	me       arrival
	listener *hello.Listener
	hub      *hub   // rank 0's
	wire     *wire  // to the hub
	list     string // who is missing, as rank 0 said last
	token    string // where Config.Meet tells the others where rank 0 is, and this
}

func (j *joining) run(ctx context.Context) (*Session, error) {
	found := len(j.cfg.Rendezvous) > 0 || j.cfg.WorldSize == 1
	switch {
	case found:
	case j.cfg.Rank == 0:
		j.token = rand.Text()
		j.keepApart()
	default:
		if err := j.find(ctx); err != nil {
			return nil, err
		}
	}
	if err := j.listen(ctx); err != nil {
		return nil, err
	}
	if err := j.introduce(); err != nil {
		return nil, err
	}
	if !found && j.cfg.Rank == 0 {
		if err := j.tell(ctx); err != nil {
			return nil, err
		}
	}
	var peers []PeerInfo
	var err error
	if j.cfg.Rank == 0 {
		peers, err = j.gather(ctx)
	} else {
		peers, err = j.visit(ctx)
	}
	if err != nil {
		return nil, err
	}
	return newSession(j, peers), nil
}

// find asks where rank 0 listens, and tell answers: a word that nobody else knows, then rank 0's addresses, loopback last.
func (j *joining) find(ctx context.Context) error {
	text, err := j.cfg.Meet(ctx, "")
	parts := strings.Split(text, ",")
	if err == nil && len(parts) < 2 {
		err = fmt.Errorf("rank 0 said %q, which is no address", text)
	}
	for i := 1; err == nil && i < len(parts); i++ {
		parts[i], err = parseAddress(parts[i])
	}
	if err != nil {
		return fmt.Errorf("bootstrap: rank %d: %w", j.cfg.Rank, err)
	}
	j.token, j.cfg.Rendezvous = parts[0], parts[1:]
	j.keepApart()
	return nil
}

// keepApart keeps the job apart from others by what only its ranks know. They prove themselves with it, too, unless they have been
// given something for that.
func (j *joining) keepApart() {
	name := sha256.Sum256([]byte("hfreduce job " + j.token))
	j.cfg.JobID += hex.EncodeToString(name[:8])
	if len(j.cfg.Secret) == 0 && j.cfg.TLS == nil {
		j.cfg.Secret = []byte(j.token)
	}
}

func (j *joining) tell(ctx context.Context) error {
	parts := []string{j.token}
	for _, back := range []bool{false, true} {
		for _, a := range j.me.addrs {
			if a.Addr().IsLoopback() == back {
				parts = append(parts, a.String())
			}
		}
	}
	if _, err := j.cfg.Meet(ctx, strings.Join(parts, ",")); err != nil {
		return fmt.Errorf("bootstrap: rank 0: %w", err)
	}
	return nil
}

// listen opens this rank's port.
func (j *joining) listen(ctx context.Context) (err error) {
	j.warnOpen()
	if j.cfg.Rank == 0 && len(j.cfg.Rendezvous) > 0 && j.cfg.WorldSize > 1 {
		j.listener, err = j.listenRendezvous(ctx)
		return err
	}
	host, err := listenHost(&j.cfg)
	if err != nil {
		return err
	}
	j.listener, err = hello.NewListener(j.listenOptions(net.JoinHostPort(host, "0")))
	if err != nil {
		return fmt.Errorf("bootstrap: rank %d: %w", j.cfg.Rank, err)
	}
	return nil
}

// warnOpen tells, once in a job, that nobody has to prove anything at its ports.
func (j *joining) warnOpen() {
	if j.cfg.Rank == 0 && j.cfg.WorldSize > 1 && len(j.cfg.Secret) == 0 && j.cfg.TLS == nil && reachable(&j.cfg) {
		j.cfg.Logger.Warn("bootstrap: the job is not authenticated: whoever reaches its ports and knows the job id can join it; " +
			"set HFREDUCE_SECRET_FILE, or HFREDUCE_TLS_CERT, HFREDUCE_TLS_KEY and HFREDUCE_TLS_CA, on all ranks")
	}
}

func (j *joining) listenOptions(addr string) hello.ListenOptions {
	return hello.ListenOptions{Addr: addr, PortRange: j.cfg.PortRange, Identity: j.identity(), Logger: j.cfg.Logger}
}

func (j *joining) identity() hello.Identity { return j.cfg.identity() }

// introduce collects what this rank says of itself.
func (j *joining) introduce() error {
	filters, err := parseFilters(j.cfg.Interfaces)
	if err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	all, err := interfaces()
	if err != nil {
		return err
	}
	addrs, err := candidates(all, filters, j.listener.Addr())
	if err != nil {
		return err
	}
	j.me = j.self()
	j.me.addrs = addrs
	return nil
}

// self is the arrival without addresses.
func (j *joining) self() arrival {
	a := arrival{worldSize: j.cfg.WorldSize, host: hostName(), pid: os.Getpid(), hostID: HostID(), node: j.cfg.Node, seat: seat()}
	rand.Read(a.id[:]) // never fails (crypto/rand)
	return a
}

// gather is rank 0's way: wait until all others have come.
func (j *joining) gather(ctx context.Context) ([]PeerInfo, error) {
	log := j.cfg.Logger
	j.hub = newHub(j.cfg)
	mine, hubs := net.Pipe()
	j.connect(mine)
	j.hub.arrive(0, j.me, hubs)
	j.listener.Handle(hello.Control, j.hub.handler())

	refresh := time.NewTicker(j.cfg.pace.refresh)
	defer refresh.Stop()
	line := time.NewTimer(j.cfg.pace.firstLine)
	defer line.Stop()
	for {
		select {
		case <-j.hub.decided:
			if f := j.hub.failure(); f != nil {
				return nil, fmt.Errorf("bootstrap: %w", f)
			}
			log.Info("bootstrap: all ranks have met", slog.Int("world_size", j.cfg.WorldSize),
				slog.Duration("after", time.Since(j.begin)), slog.String("at", j.listener.Addr().String()))
			peers, _, err := j.await(context.WithoutCancel(ctx)) // the table is on its way through the pipe
			return peers, err
		case <-refresh.C:
			j.list = j.hub.refresh(j.list)
		case <-line.C:
			log.Warn("bootstrap: " + j.hub.refresh(j.list))
			line.Reset(j.cfg.pace.nextLine)
		case <-ctx.Done():
			j.hub.giveUp(func(list string) *failure { return j.late(ctx, list) })
		}
	}
}

// late is the failure when ctx has ended.
func (j *joining) late(ctx context.Context, list string) *failure {
	f := failuref(codeOther, "the ranks did not meet: %s; rank 0 (%s) listened on %v: %v",
		list, j.me.process(), j.listener.Addr(), context.Cause(ctx))
	f.text += j.listener.Suspects()
	if f.cause = context.Cause(ctx); errors.Is(f.cause, ErrTimeout) {
		f.code = codeTimeout
	}
	return f
}

// connect takes conn as the way to the hub.
func (j *joining) connect(conn net.Conn) { j.wire = newWire(conn) }

// await reads from the hub until the rendezvous is decided. again says that the connection broke before, so that
// another attempt makes sense.
func (j *joining) await(ctx context.Context) (peers []PeerInfo, again bool, err error) {
	stop := context.AfterFunc(ctx, func() { j.giveUp(ctx) })
	defer stop()
	for {
		k, body, err := readFrame(j.wire.in, maxDownFrame)
		if err != nil {
			return nil, true, err
		}
		switch k {
		case kindWaiting:
			d := decoder{rest: body}
			j.list = d.text(maxText)
			err = d.end()
		case kindFailed:
			var f *failure
			if f, err = parseFailed(body); err == nil {
				return nil, false, fmt.Errorf("bootstrap: %w", f)
			}
		case kindTable:
			if peers, err = parseTable(body, j.cfg.WorldSize); err == nil && !stop() {
				err = fmt.Errorf("all ranks met too late: %w", context.Cause(ctx))
			}
			if err == nil {
				return peers, false, nil
			}
		default:
			err = fmt.Errorf("%w: kind %d during the rendezvous", errFrame, k)
		}
		if err != nil {
			return nil, false, fmt.Errorf("bootstrap: rank 0: %w", err)
		}
	}
}

// giveUp ends await. A deadline that has passed is told to rank 0, whose answer, the same for all ranks, await gets to
// read: otherwise those who leave first would be missing in what the last ones hear. Who is merely cancelled leaves
// quietly and may come back.
func (j *joining) giveUp(ctx context.Context) {
	cause := context.Cause(ctx)
	if !errors.Is(cause, ErrTimeout) {
		j.wire.kill()
		return
	}
	j.wire.conn.SetDeadline(time.Now().Add(lastWords))
	j.wire.conn.Write(failedFrame(failuref(codeTimeout, "%v", cause))) // if it fails, await sees it too
}

// undo releases what a failed Join holds. The ranks that have arrived get a moment to read the reason.
func (j *joining) undo() {
	if j.wire != nil {
		j.wire.kill()
	}
	if j.hub != nil {
		select {
		case <-j.hub.empty:
		case <-time.After(lastWords):
		}
		j.hub.close()
	}
	if j.listener != nil {
		j.listener.Close()
	}
}
