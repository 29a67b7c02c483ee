// SPDX-License-Identifier: Apache-2.0

//go:build cgo

// The hot path. ibv_post_send, ibv_post_recv and ibv_poll_cq are inline functions of the header that call the device's
// provider, without the library in between.

#include "library.h"

#if VB_HAVE_VERBS

#include <endian.h>
#include <errno.h>
#include <stddef.h>

_Static_assert(IBV_WR_RDMA_WRITE == 0 && IBV_WR_RDMA_WRITE_WITH_IMM == 1 && IBV_WR_SEND == 2, "Opcode");
_Static_assert(IBV_SEND_FENCE == 1 && IBV_SEND_SIGNALED == 2 && IBV_SEND_INLINE == 8, "Flags");
_Static_assert(IBV_WC_RDMA_WRITE == 1 && IBV_WC_RECV == 128 && IBV_WC_RECV_RDMA_WITH_IMM == 129, "CompletionOp");
_Static_assert(IBV_WC_SUCCESS == 0 && IBV_WC_RETRY_EXC_ERR == 12 && IBV_WC_GENERAL_ERR == 21, "WCStatus");

enum {
	BATCH = 32, // work requests in a chain, and completions taken at a time
	UNKNOWN = EIO,
};

// post_receives posts receives without bytes, and returns 0 or an errno.
static int post_receives(struct ibv_qp *qp, int count) {
	struct ibv_recv_wr chain[BATCH], *bad;
	while (count > 0) {
		int n = count < BATCH ? count : BATCH;
		for (int i = 0; i < n; i++)
			chain[i] = (struct ibv_recv_wr){ .wr_id = UINT64_MAX, .next = i + 1 < n ? &chain[i + 1] : NULL };
		int error = ibv_post_recv(qp, chain, &bad);
		if (error)
			return error > 0 ? error : UNKNOWN;
		count -= n;
	}
	return 0;
}

// post_sends posts sends in order, counts in posted how many were taken, and returns 0 or an errno.
static int post_sends(struct ibv_qp *qp, const struct vb_send *sends, int count, int32_t *posted) {
	struct ibv_send_wr chain[BATCH], *bad;
	struct ibv_sge pieces[BATCH];
	while (*posted < count) {
		int n = count - *posted < BATCH ? count - *posted : BATCH;
		for (int i = 0; i < n; i++) {
			const struct vb_send *s = &sends[*posted + i];
			pieces[i] = (struct ibv_sge){ .addr = s->addr, .length = s->bytes, .lkey = s->lkey };
			chain[i] = (struct ibv_send_wr){
				.wr_id = s->id, .next = i + 1 < n ? &chain[i + 1] : NULL,
				.sg_list = &pieces[i], .num_sge = s->bytes > 0, // a piece of length 0 means 2 GiB to some devices
				.opcode = s->op, .send_flags = s->flags, .imm_data = htobe32(s->imm),
				.wr.rdma = { .remote_addr = s->remote_addr, .rkey = s->rkey },
			};
		}
		bad = NULL;
		int error = ibv_post_send(qp, chain, &bad);
		if (error) {
			*posted += bad ? (int)(bad - chain) : 0;
			return error > 0 ? error : UNKNOWN;
		}
		*posted += n;
	}
	return 0;
}

// poll takes completions as long as there are some and there is room. It returns 0 or an errno.
static int poll(struct ibv_cq *cq, struct vb_completion *done, int max, int32_t *polled) {
	struct ibv_wc wc[BATCH];
	while (*polled < max) {
		int room = max - *polled < BATCH ? max - *polled : BATCH;
		int n = ibv_poll_cq(cq, room, wc);
		if (n < 0)
			return UNKNOWN;
		for (int i = 0; i < n; i++) {
			struct vb_completion *c = &done[(*polled)++];
			*c = (struct vb_completion){ .id = wc[i].wr_id, .status = wc[i].status, .qp = wc[i].qp_num, .vendor = wc[i].vendor_err };
			if (wc[i].status != IBV_WC_SUCCESS)
				continue; // nothing else is valid
			c->op = wc[i].opcode;
			if (!(wc[i].opcode & IBV_WC_RECV))
				continue; // nothing else says anything
			c->bytes = wc[i].byte_len;
			if (wc[i].wc_flags & IBV_WC_WITH_IMM) {
				c->with_imm = 1;
				c->imm = be32toh(wc[i].imm_data);
			}
		}
		if (n < room)
			break;
	}
	return 0;
}

// note keeps the first error.
static void note(struct vb_stepped *s, enum vb_verb verb, int error) {
	if (error && !s->error) {
		s->error = error;
		s->verb = verb;
	}
}

struct vb_stepped vb_step(vb_handle qp, vb_handle send_cq, vb_handle recv_cq, const struct vb_send *sends, int nsends, int receives,
	struct vb_completion *done, int max) {
	struct vb_stepped s = { 0 };
	if (receives > 0)
		note(&s, VB_POST_RECV, post_receives((struct ibv_qp *)qp, receives));
	if (nsends > 0 && !s.error)
		note(&s, VB_POST_SEND, post_sends((struct ibv_qp *)qp, sends, nsends, &s.posted));
	note(&s, VB_POLL_CQ, poll((struct ibv_cq *)recv_cq, done, max, &s.polled));
	if (send_cq != recv_cq)
		note(&s, VB_POLL_CQ, poll((struct ibv_cq *)send_cq, done, max, &s.polled));
	return s;
}

struct vb_stepped vb_poll(vb_handle cq, struct vb_completion *done, int max) {
	struct vb_stepped s = { 0 };
	note(&s, VB_POLL_CQ, poll((struct ibv_cq *)cq, done, max, &s.polled));
	return s;
}

#endif
