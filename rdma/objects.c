// SPDX-License-Identifier: Apache-2.0

//go:build cgo

// All calls of libibverbs but the hot ones, which are in step.c.

#include "library.h"

#if VB_HAVE_VERBS

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

// query_port does what the header's macro makes of a call: it asks the provider of the device, or else the library,
// which must then be there by the name ibv_query_port.
static int query_port(struct ibv_context *device, uint8_t port, struct ibv_port_attr *attr) { return ibv_query_port(device, port, attr); }

#undef ibv_query_port
// Hidden: an exported one would come before the library's own.
__attribute__((visibility("hidden"))) int ibv_query_port(struct ibv_context *device, uint8_t port, struct _compat_ibv_port_attr *attr) {
	return vb_lib.query_port(device, port, attr);
}

// Go names these by their numbers (gid.go, port.go, qp.go, step.go, event.go, status.go).
_Static_assert(IBV_PORT_ACTIVE == 4 && IBV_LINK_LAYER_ETHERNET == 2 && IBV_MTU_4096 == 5, "port.go");
_Static_assert(IBV_QPS_RESET == 0 && IBV_QPS_RTS == 3 && IBV_QPS_ERR == 6, "State");
_Static_assert(IBV_EVENT_CQ_ERR == 0 && IBV_EVENT_PORT_ERR == 10 && IBV_EVENT_GID_CHANGE == 18, "EventKind");
_Static_assert(IBV_ACCESS_LOCAL_WRITE == 1 && IBV_ACCESS_REMOTE_WRITE == 2 && IBV_ACCESS_REMOTE_READ == 4, "Access");
_Static_assert((int)VB_NAME == (int)IBV_SYSFS_NAME_MAX, "VB_NAME");

enum { RELAXED_ORDERING = 1 << 20 }; // IBV_ACCESS_RELAXED_ORDERING, which headers before rdma-core 28 lack

// failure returns the errno of a call that returned r: functions of libibverbs return it, or -1 and set errno.
static int failure(int r) {
	if (r == 0)
		return 0;
	if (r > 0)
		return r;
	return errno ? errno : EIO;
}

// made stores the address of a new object, or returns the errno if there is none.
static int made(void *object, vb_handle *out) {
	*out = (vb_handle)object;
	if (object)
		return 0;
	return errno ? errno : EIO;
}

static int nonblocking(int fd) {
	int flags = fcntl(fd, F_GETFL);
	return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? errno : 0;
}

int vb_devices(char (*names)[VB_NAME], int max, int *count) {
	errno = 0;
	*count = 0;
	struct ibv_device **list = vb_lib.get_device_list(count);
	if (!list)
		return errno ? errno : EIO;
	for (int i = 0; i < *count && i < max; i++)
		snprintf(names[i], VB_NAME, "%s", vb_lib.get_device_name(list[i]));
	vb_lib.free_device_list(list);
	return 0;
}

int vb_open(const char *name, vb_handle *device, int *event_fd) {
	errno = 0;
	int count = 0, error = ENODEV;
	struct ibv_device **list = vb_lib.get_device_list(&count);
	if (!list)
		return ENODEV;
	for (int i = 0; i < count; i++) {
		if (strcmp(vb_lib.get_device_name(list[i]), name) != 0)
			continue;
		errno = 0;
		struct ibv_context *context = vb_lib.open_device(list[i]);
		error = made(context, device);
		if (error)
			break;
		*event_fd = context->async_fd;
		error = nonblocking(context->async_fd);
		if (error)
			vb_lib.close_device(context);
		break;
	}
	vb_lib.free_device_list(list);
	return error;
}

int vb_destroy(int kind, vb_handle object) {
	void *p = (void *)object;
	errno = 0;
	switch ((enum vb_kind)kind) {
	case VB_DEVICE:
		return failure(vb_lib.close_device(p));
	case VB_PD:
		return failure(vb_lib.dealloc_pd(p));
	case VB_MR:
		return failure(vb_lib.dereg_mr(p));
	case VB_CHANNEL:
		return failure(vb_lib.destroy_comp_channel(p));
	case VB_CQ:
		return failure(vb_lib.destroy_cq(p));
	case VB_QP:
		return failure(vb_lib.destroy_qp(p));
	}
	return EINVAL;
}

int vb_query_device(vb_handle device, struct vb_device_attr *out) {
	struct ibv_device_attr a;
	errno = 0;
	int error = failure(vb_lib.query_device((struct ibv_context *)device, &a));
	if (error)
		return error;
	*out = (struct vb_device_attr){
		.node_guid = be64toh(a.node_guid), .max_mr_size = a.max_mr_size,
		.vendor_id = a.vendor_id, .vendor_part_id = a.vendor_part_id, .ports = a.phys_port_cnt,
		.max_qp = a.max_qp, .max_qp_wr = a.max_qp_wr, .max_sge = a.max_sge, .max_cq = a.max_cq, .max_cqe = a.max_cqe,
		.max_mr = a.max_mr, .max_pd = a.max_pd, .max_rd_atomic = a.max_qp_rd_atom,
	};
	memcpy(out->firmware, a.fw_ver, sizeof out->firmware);
	out->firmware[sizeof out->firmware - 1] = 0;
	return 0;
}

int vb_query_port(vb_handle device, int port, struct vb_port_attr *out) {
	struct ibv_port_attr a;
	memset(&a, 0, sizeof a);
	errno = 0;
	int error = failure(query_port((struct ibv_context *)device, port, &a));
	if (error)
		return error;
	*out = (struct vb_port_attr){
		.state = a.state, .link_layer = a.link_layer, .active_mtu = a.active_mtu, .max_mtu = a.max_mtu,
		.max_message = a.max_msg_sz, .lid = a.lid, .gids = a.gid_tbl_len, .pkeys = a.pkey_tbl_len,
#ifdef IBV_QPF_GRH_REQUIRED // not in old headers
		.grh_required = (a.flags & IBV_QPF_GRH_REQUIRED) != 0,
#endif
	};
	return 0;
}

int vb_query_gid(vb_handle device, int port, int index, uint8_t gid[16]) {
	union ibv_gid g;
	memset(&g, 0, sizeof g);
	errno = 0;
	int error = failure(vb_lib.query_gid((struct ibv_context *)device, port, index, &g));
	memcpy(gid, g.raw, sizeof g.raw);
	return error;
}

int vb_query_pkey(vb_handle device, int port, int index, uint16_t *key) {
	__be16 k = 0;
	errno = 0;
	int error = failure(vb_lib.query_pkey((struct ibv_context *)device, port, index, &k));
	*key = be16toh(k);
	return error;
}

int vb_next_event(vb_handle device, struct vb_event *out) {
	struct ibv_async_event e;
	memset(out, 0, sizeof *out);
	errno = 0;
	int error = failure(vb_lib.get_async_event((struct ibv_context *)device, &e));
	if (error)
		return error;
	out->kind = e.event_type;
	switch (e.event_type) {
	case IBV_EVENT_QP_FATAL:
	case IBV_EVENT_QP_REQ_ERR:
	case IBV_EVENT_QP_ACCESS_ERR:
	case IBV_EVENT_COMM_EST:
	case IBV_EVENT_SQ_DRAINED:
	case IBV_EVENT_PATH_MIG:
	case IBV_EVENT_PATH_MIG_ERR:
	case IBV_EVENT_QP_LAST_WQE_REACHED:
		out->qp = e.element.qp->qp_num; // until the event is acknowledged the QP cannot be destroyed
		break;
	case IBV_EVENT_PORT_ACTIVE:
	case IBV_EVENT_PORT_ERR:
	case IBV_EVENT_LID_CHANGE:
	case IBV_EVENT_PKEY_CHANGE:
	case IBV_EVENT_SM_CHANGE:
	case IBV_EVENT_CLIENT_REREGISTER:
	case IBV_EVENT_GID_CHANGE:
		out->port = e.element.port_num;
		break;
	default:
		break;
	}
	vb_lib.ack_async_event(&e);
	return 0;
}

int vb_alloc_pd(vb_handle device, vb_handle *pd) {
	errno = 0;
	return made(vb_lib.alloc_pd((struct ibv_context *)device), pd);
}

static int registered(struct ibv_mr *mr, struct vb_mr *out) {
	int error = made(mr, &out->mr);
	if (!error) {
		out->lkey = mr->lkey;
		out->rkey = mr->rkey;
	}
	return error;
}

int vb_reg_mr(vb_handle pd, uintptr_t addr, uint64_t length, uint32_t access, struct vb_mr *out) {
	errno = 0;
	// The library itself leaves relaxed ordering out where the kernel does not know optional rights.
	if ((access & RELAXED_ORDERING) && vb_lib.reg_mr_iova2)
		return registered(vb_lib.reg_mr_iova2((struct ibv_pd *)pd, (void *)addr, length, addr, access), out);
	return registered(vb_lib.reg_mr((struct ibv_pd *)pd, (void *)addr, length, access & ~RELAXED_ORDERING), out);
}

int vb_reg_dmabuf(vb_handle pd, int fd, uint64_t offset, uint64_t length, uint64_t iova, uint32_t access, struct vb_mr *out) {
	errno = 0;
	return registered(vb_lib.reg_dmabuf_mr((struct ibv_pd *)pd, offset, length, iova, fd, access), out);
}

int vb_create_channel(vb_handle device, vb_handle *channel, int *fd) {
	errno = 0;
	struct ibv_comp_channel *c = vb_lib.create_comp_channel((struct ibv_context *)device);
	int error = made(c, channel);
	if (error)
		return error;
	*fd = c->fd;
	error = nonblocking(c->fd);
	if (error)
		vb_lib.destroy_comp_channel(c);
	return error;
}

int vb_drain(vb_handle channel, int *count) {
	*count = 0;
	for (;;) {
		struct ibv_cq *cq;
		void *context;
		errno = 0;
		int error = failure(vb_lib.get_cq_event((struct ibv_comp_channel *)channel, &cq, &context));
		if (error)
			return error == EAGAIN ? 0 : error;
		vb_lib.ack_cq_events(cq, 1);
		++*count;
	}
}

int vb_create_cq(vb_handle device, int entries, vb_handle channel, vb_handle *cq) {
	errno = 0;
	return made(vb_lib.create_cq((struct ibv_context *)device, entries, NULL, (struct ibv_comp_channel *)channel, 0), cq);
}

int vb_arm(vb_handle cq) {
	errno = 0;
	return failure(ibv_req_notify_cq((struct ibv_cq *)cq, 0));
}

int vb_create_qp(vb_handle pd, vb_handle send, vb_handle recv, uint32_t max_send, uint32_t max_recv, uint32_t max_inline, struct vb_qp *out) {
	struct ibv_qp_init_attr a = {
		.send_cq = (struct ibv_cq *)send, .recv_cq = (struct ibv_cq *)recv, .qp_type = IBV_QPT_RC, .sq_sig_all = 0,
		.cap = { .max_send_wr = max_send, .max_recv_wr = max_recv, .max_send_sge = 1, .max_recv_sge = 1, .max_inline_data = max_inline },
	};
	errno = 0;
	struct ibv_qp *qp = vb_lib.create_qp((struct ibv_pd *)pd, &a);
	int error = made(qp, &out->qp);
	if (error)
		return error;
	out->number = qp->qp_num;
	out->max_inline = a.cap.max_inline_data;
	return 0;
}

static int modify(vb_handle qp, struct ibv_qp_attr *a, int mask) {
	errno = 0;
	return failure(vb_lib.modify_qp((struct ibv_qp *)qp, a, mask | IBV_QP_STATE));
}

int vb_to_init(vb_handle qp, int port, int pkey_index, uint32_t access) {
	struct ibv_qp_attr a = { .qp_state = IBV_QPS_INIT, .port_num = port, .pkey_index = pkey_index, .qp_access_flags = access };
	return modify(qp, &a, IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
}

int vb_to_rtr(vb_handle qp, const struct vb_path *p) {
	struct ibv_qp_attr a = {
		.qp_state = IBV_QPS_RTR, .path_mtu = p->mtu, .dest_qp_num = p->remote_qp, .rq_psn = p->remote_psn,
		.max_dest_rd_atomic = p->max_rd_atomic, .min_rnr_timer = p->min_rnr_timer,
		.ah_attr = { .dlid = p->remote_lid, .sl = p->sl, .port_num = p->port },
	};
	if (p->gid_index >= 0) {
		a.ah_attr.is_global = 1;
		a.ah_attr.grh.sgid_index = p->gid_index;
		a.ah_attr.grh.hop_limit = p->hop_limit;
		a.ah_attr.grh.traffic_class = p->traffic_class;
		memcpy(a.ah_attr.grh.dgid.raw, p->remote_gid, sizeof p->remote_gid);
	}
	return modify(qp, &a, IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER);
}

int vb_to_rts(vb_handle qp, const struct vb_path *p) {
	struct ibv_qp_attr a = {
		.qp_state = IBV_QPS_RTS, .timeout = p->timeout, .retry_cnt = p->retry, .rnr_retry = p->rnr_retry, .sq_psn = p->local_psn,
		.max_rd_atomic = p->max_rd_atomic,
	};
	return modify(qp, &a, IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC);
}

int vb_to_error(vb_handle qp) {
	struct ibv_qp_attr a = { .qp_state = IBV_QPS_ERR };
	return modify(qp, &a, 0);
}

int vb_query_state(vb_handle qp, uint32_t *state) {
	struct ibv_qp_attr a;
	struct ibv_qp_init_attr init;
	errno = 0;
	int error = failure(vb_lib.query_qp((struct ibv_qp *)qp, &a, IBV_QP_STATE, &init));
	*state = error ? 0 : a.qp_state;
	return error;
}

#endif
