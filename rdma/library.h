// SPDX-License-Identifier: Apache-2.0

// The functions of libibverbs, found at run time and called by way of the table lib, as lib.open_device(...).
//
// Their types are those of rdma-core's header, whose structures the library shares with programs. The two functions that
// older headers lack are declared here. VB_HAVE_VERBS is 0 where there is no header, or HFREDUCE_NO_VERBS is defined.

#ifndef RDMA_LIBRARY_H
#define RDMA_LIBRARY_H

#if !defined(HFREDUCE_NO_VERBS) && defined(__has_include)
#if __has_include(<infiniband/verbs.h>)
#define VB_HAVE_VERBS 1
#include <infiniband/verbs.h>
#endif
#endif
#ifndef VB_HAVE_VERBS
#define VB_HAVE_VERBS 0
#endif

#include "seam.h"

#if VB_HAVE_VERBS

// Each with the version of its symbol. Most of 1.1 exist as 1.0, too, for the structures of long ago: the version must
// be named.
#define VB_REQUIRED(X) \
	X(get_device_list, "IBVERBS_1.1") \
	X(free_device_list, "IBVERBS_1.1") \
	X(get_device_name, "IBVERBS_1.1") \
	X(open_device, "IBVERBS_1.1") \
	X(close_device, "IBVERBS_1.1") \
	X(query_device, "IBVERBS_1.1") \
	X(query_gid, "IBVERBS_1.1") \
	X(query_pkey, "IBVERBS_1.1") \
	X(get_async_event, "IBVERBS_1.1") \
	X(ack_async_event, "IBVERBS_1.1") \
	X(alloc_pd, "IBVERBS_1.1") \
	X(dealloc_pd, "IBVERBS_1.1") \
	X(reg_mr, "IBVERBS_1.1") \
	X(dereg_mr, "IBVERBS_1.1") \
	X(create_comp_channel, "IBVERBS_1.0") \
	X(destroy_comp_channel, "IBVERBS_1.0") \
	X(create_cq, "IBVERBS_1.1") \
	X(destroy_cq, "IBVERBS_1.1") \
	X(get_cq_event, "IBVERBS_1.1") \
	X(ack_cq_events, "IBVERBS_1.1") \
	X(create_qp, "IBVERBS_1.1") \
	X(modify_qp, "IBVERBS_1.1") \
	X(query_qp, "IBVERBS_1.1") \
	X(destroy_qp, "IBVERBS_1.1")

typedef struct ibv_mr *vb_reg_mr_iova2_fn(struct ibv_pd *, void *, size_t, uint64_t iova, unsigned int access);
typedef struct ibv_mr *vb_reg_dmabuf_mr_fn(struct ibv_pd *, uint64_t offset, size_t, uint64_t iova, int fd, int access);
typedef int vb_query_port_fn(struct ibv_context *, uint8_t port, struct _compat_ibv_port_attr *);

#define VB_MEMBER(name, version) __typeof__(ibv_##name) *name;
struct vb_library {
	VB_REQUIRED(VB_MEMBER)
	vb_query_port_fn *query_port;
	// NULL if the library is too old for it.
	vb_reg_mr_iova2_fn *reg_mr_iova2;
	vb_reg_dmabuf_mr_fn *reg_dmabuf_mr;
};
#undef VB_MEMBER

extern struct vb_library vb_lib __attribute__((visibility("hidden")));

#endif
#endif
