// SPDX-License-Identifier: Apache-2.0

//go:build cgo

// Where rdma-core's header is missing vb_load fails (library.c), and none of these is ever called.

#include "library.h"

#if !VB_HAVE_VERBS

#include <errno.h>

#pragma GCC diagnostic ignored "-Wunused-parameter"

#define MISSING(function, ...) \
	int function(__VA_ARGS__) { return ENOSYS; }

MISSING(vb_devices, char (*names)[VB_NAME], int max, int *count)
MISSING(vb_open, const char *name, vb_handle *device, int *event_fd)
MISSING(vb_destroy, int kind, vb_handle object)
MISSING(vb_query_device, vb_handle device, struct vb_device_attr *out)
MISSING(vb_query_port, vb_handle device, int port, struct vb_port_attr *out)
MISSING(vb_query_gid, vb_handle device, int port, int index, uint8_t gid[16])
MISSING(vb_query_pkey, vb_handle device, int port, int index, uint16_t *key)
MISSING(vb_next_event, vb_handle device, struct vb_event *out)
MISSING(vb_alloc_pd, vb_handle device, vb_handle *pd)
MISSING(vb_reg_mr, vb_handle pd, uintptr_t addr, uint64_t length, uint32_t access, struct vb_mr *out)
MISSING(vb_reg_dmabuf, vb_handle pd, int fd, uint64_t offset, uint64_t length, uint64_t iova, uint32_t access, struct vb_mr *out)
MISSING(vb_create_channel, vb_handle device, vb_handle *channel, int *fd)
MISSING(vb_drain, vb_handle channel, int *count)
MISSING(vb_create_cq, vb_handle device, int entries, vb_handle channel, vb_handle *cq)
MISSING(vb_arm, vb_handle cq)
MISSING(vb_create_qp, vb_handle pd, vb_handle send, vb_handle recv, uint32_t max_send, uint32_t max_recv, uint32_t max_inline, struct vb_qp *out)
MISSING(vb_to_init, vb_handle qp, int port, int pkey_index, uint32_t access)
MISSING(vb_to_rtr, vb_handle qp, const struct vb_path *path)
MISSING(vb_to_rts, vb_handle qp, const struct vb_path *path)
MISSING(vb_to_error, vb_handle qp)
MISSING(vb_query_state, vb_handle qp, uint32_t *state)

struct vb_stepped vb_step(vb_handle qp, vb_handle send_cq, vb_handle recv_cq, const struct vb_send *sends, int nsends, int receives,
	struct vb_completion *done, int max) {
	return (struct vb_stepped){ .error = ENOSYS };
}

struct vb_stepped vb_poll(vb_handle cq, struct vb_completion *done, int max) { return (struct vb_stepped){ .error = ENOSYS }; }

#endif
