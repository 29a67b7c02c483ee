// SPDX-License-Identifier: Apache-2.0

// What testdata/gpu/prove must find if it is to be believed: 7 kernels, 3 copies of 1 MiB to the GPU, 2 back, 1 memset.
// With an argument the process ends as a Go program does, without running what atexit was given.

#include <chrono>
#include <cstdio>
#include <thread>
#include <unistd.h>

__global__ void control_kernel(unsigned *p) { p[blockIdx.x * blockDim.x + threadIdx.x]++; }

static bool failed(cudaError_t e) {
	if (e != cudaSuccess)
		fprintf(stderr, "control: %s\n", cudaGetErrorString(e));
	return e != cudaSuccess;
}

int main(int argc, char **) {
	const size_t bytes = 1 << 20;
	unsigned *device = nullptr, *host = nullptr;
	if (failed(cudaMallocHost(&host, bytes)) || failed(cudaMalloc(&device, bytes)))
		return 1;
	for (size_t i = 0; i < bytes / sizeof *host; i++)
		host[i] = 0;
	for (int i = 0; i < 3; i++)
		if (failed(cudaMemcpy(device, host, bytes, cudaMemcpyHostToDevice)))
			return 1;
	if (failed(cudaMemset(device, 0, bytes)))
		return 1;
	for (int i = 0; i < 7; i++)
		control_kernel<<<bytes / sizeof *device / 256, 256>>>(device);
	if (failed(cudaGetLastError()))
		return 1;
	for (int i = 0; i < 2; i++)
		if (failed(cudaMemcpy(host, device, bytes, cudaMemcpyDeviceToHost)))
			return 1;
	if (host[0] != 7) {
		fprintf(stderr, "control: the kernels did not run\n");
		return 1;
	}
	if (argc > 1) {
		std::this_thread::sleep_for(std::chrono::milliseconds(300)); // three rounds of the tracer
		_exit(0);
	}
	return 0;
}
