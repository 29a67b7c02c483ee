// SPDX-License-Identifier: Apache-2.0

// What Go sees of C: plain structures, and addresses as integers, the same with and without rdma-core's header.
//
// Functions return 0 or an errno, unless they say otherwise. Constants that have no name here are those of
// infiniband/verbs.h, whose values are part of the kernel's interface; objects.c asserts those that Go relies on.

#ifndef RDMA_SEAM_H
#define RDMA_SEAM_H

#include <stdint.h>

// Not exported, also where the program exports its symbols to what it loads.
#pragma GCC visibility push(hidden)

typedef uintptr_t vb_handle; // the address of an object of libibverbs

enum { VB_NAME = 64 }; // bytes of a device's name with the 0 at its end: IBV_SYSFS_NAME_MAX

// vb_load loads libibverbs; it must be called first, and only once. It returns 0, or 1 with what is missing as text.
int vb_load(char *missing, int size);
// vb_has_dmabuf tells whether the library has ibv_reg_dmabuf_mr.
int vb_has_dmabuf(void);

// vb_devices writes the names of up to max devices and returns in count how many there are.
int vb_devices(char (*names)[VB_NAME], int max, int *count);
// vb_open opens a device and makes the descriptor of its events non-blocking. ENODEV if the library does not list it.
int vb_open(const char *name, vb_handle *device, int *event_fd);

enum vb_kind { VB_DEVICE, VB_PD, VB_MR, VB_CHANNEL, VB_CQ, VB_QP };
// vb_destroy gives any object back.
int vb_destroy(int kind, vb_handle object);

struct vb_device_attr {
	char firmware[64];
	uint64_t node_guid, max_mr_size;
	uint32_t vendor_id, vendor_part_id, ports;
	int32_t max_qp, max_qp_wr, max_sge, max_cq, max_cqe, max_mr, max_pd, max_rd_atomic;
};
int vb_query_device(vb_handle device, struct vb_device_attr *out);

struct vb_port_attr {
	uint32_t state, link_layer, active_mtu, max_mtu, max_message, lid, gids, pkeys, grh_required;
};
int vb_query_port(vb_handle device, int port, struct vb_port_attr *out);
int vb_query_gid(vb_handle device, int port, int index, uint8_t gid[16]);
int vb_query_pkey(vb_handle device, int port, int index, uint16_t *key);

struct vb_event {
	uint32_t kind, port, qp; // port and qp are 0 if the event is not about one
};
// vb_next_event takes and acknowledges an event; EAGAIN if there is none.
int vb_next_event(vb_handle device, struct vb_event *out);

int vb_alloc_pd(vb_handle device, vb_handle *pd);

struct vb_mr {
	vb_handle mr;
	uint32_t lkey, rkey;
};
int vb_reg_mr(vb_handle pd, uintptr_t addr, uint64_t length, uint32_t access, struct vb_mr *out);
int vb_reg_dmabuf(vb_handle pd, int fd, uint64_t offset, uint64_t length, uint64_t iova, uint32_t access, struct vb_mr *out);

int vb_create_channel(vb_handle device, vb_handle *channel, int *fd);
// vb_drain takes and acknowledges all events there are, without blocking.
int vb_drain(vb_handle channel, int *count);
int vb_create_cq(vb_handle device, int entries, vb_handle channel, vb_handle *cq);
int vb_arm(vb_handle cq);

struct vb_qp {
	vb_handle qp;
	uint32_t number, max_inline;
};
int vb_create_qp(vb_handle pd, vb_handle send, vb_handle recv, uint32_t max_send, uint32_t max_recv, uint32_t max_inline, struct vb_qp *out);

struct vb_path {
	uint32_t remote_qp, remote_psn, local_psn, mtu; // mtu is an enum ibv_mtu
	int32_t gid_index;                              // negative for none
	uint16_t remote_lid;
	uint8_t remote_gid[16];
	uint8_t port, sl, traffic_class, hop_limit, timeout, retry, rnr_retry, min_rnr_timer, max_rd_atomic;
};
int vb_to_init(vb_handle qp, int port, int pkey_index, uint32_t access);
int vb_to_rtr(vb_handle qp, const struct vb_path *path);
int vb_to_rts(vb_handle qp, const struct vb_path *path);
int vb_to_error(vb_handle qp);
int vb_query_state(vb_handle qp, uint32_t *state);

// The hot path. Go's SendWR and Completion have the layout of these two.
struct vb_send {
	uint64_t id;
	uint32_t op, flags;
	uint64_t addr;
	uint32_t bytes, lkey;
	uint64_t remote_addr;
	uint32_t rkey, imm; // imm in host order
};
struct vb_completion {
	uint64_t id;
	uint32_t status, op, bytes, imm, qp, vendor; // imm in host order
	uint8_t with_imm;
};

// What a step did, and which call failed with which errno.
enum vb_verb { VB_NONE, VB_POST_RECV, VB_POST_SEND, VB_POLL_CQ };
struct vb_stepped {
	int32_t posted, polled, error, verb;
};
// vb_step posts receives without bytes, then sends, then polls both queues (the same one once), the one of the receives
// first. It goes on to poll when posting failed.
struct vb_stepped vb_step(vb_handle qp, vb_handle send_cq, vb_handle recv_cq, const struct vb_send *sends, int nsends, int receives,
	struct vb_completion *done, int max);
// vb_poll polls one queue.
struct vb_stepped vb_poll(vb_handle cq, struct vb_completion *done, int max);

#pragma GCC visibility pop

#endif
