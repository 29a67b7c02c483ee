// SPDX-License-Identifier: Apache-2.0

//go:build !nvml || !cgo || !linux

package nvml

func list(string) ([]GPU, error) {
	return nil, unsupported("this program was built without NVML, which needs Linux, cgo (CGO_ENABLED=1 and a C compiler) and -tags nvml")
}
