// SPDX-License-Identifier: Apache-2.0

//go:build !cgo

package cuda

import "unsafe"

// The twin of raw_cgo.go. Nothing can be loaded, so that none of these is ever called.

// built is what the build lacks, empty for nothing.
const built = "built without cgo"

var never = result{code: codeNotSupported}

func rawOpen(string, bool) (library uintptr, why string)         { return 0, built }
func rawClose(uintptr)                                           {}
func rawDriverVersion(uintptr) int                               { return 0 }
func rawBind(uintptr, uintptr) (missing string, of int)          { return built, 1 }
func rawHas() features                                           { return 0 }
func rawText(result) (call, name, text string)                   { return "", "", built }
func rawVersions() (runtime, driver int, r result)               { return 0, 0, never }
func rawDeviceCount() (int, result)                              { return 0, never }
func rawProperties(int) (Properties, result)                     { return Properties{}, never }
func rawMemInfo(int) (free, total int64, r result)               { return 0, 0, never }
func rawLastError(int) result                                    { return never }
func rawSynchronizeDevice(int) result                            { return never }
func rawMalloc(int, int64) (Ptr, result)                         { return 0, never }
func rawFree(int, Ptr) result                                    { return never }
func rawHostAlloc(int, int64) (unsafe.Pointer, Ptr, result)      { return nil, 0, never }
func rawHostFree(int, uintptr) result                            { return never }
func rawRegister(int, uintptr, int) (Ptr, result)                { return 0, never }
func rawUnregister(int, uintptr) result                          { return never }
func rawPointer(Ptr) (Attributes, result)                        { return Attributes{}, never }
func rawAddressRange(int, Ptr) (base Ptr, bytes int64, r result) { return 0, 0, never }
func rawCopy(int, Ptr, Ptr, int64, Kind) result                  { return never }
func rawNewStream(int, bool) (Stream, result)                    { return 0, never }
func rawDestroyStream(int, Stream) result                        { return never }
func rawQuery(int, Stream) result                                { return never }
func rawSynchronize(int, Stream) result                          { return never }
func rawCapturing(int, Stream) (bool, result)                    { return false, never }
func rawNewEvent(int, bool) (Event, result)                      { return 0, never }
func rawDestroyEvent(int, Event) result                          { return never }
func rawQueryEvent(int, Event) result                            { return never }
func rawSynchronizeEvent(int, Event) result                      { return never }
func rawElapsed(int, Event, Event) (ms float32, r result)        { return 0, never }
func rawCanAccess(int, int) (bool, result)                       { return false, never }
func rawEnablePeer(int, int) result                              { return never }
func rawIPCHandle(int, Ptr) ([64]byte, result)                   { return [64]byte{}, never }
func rawOpenIPC(int, [64]byte) (Ptr, result)                     { return 0, never }
func rawCloseIPC(int, Ptr) result                                { return never }
func rawRun(int, []command, features) (done int, r result)       { return 0, never }
