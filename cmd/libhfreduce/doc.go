// SPDX-License-Identifier: Apache-2.0

// Command libhfreduce is hfreduce for C and what calls C: a shared library with the functions of hfreduce.h.
//
//	make lib
//
// hfreduce.h is the interface. wrap.c has its functions, which call those of export.go; Go's runtime must not be called in a
// child that was forked, since its threads are not there. libhfreduce.map says what the library shows. A handle is a number in
// a table, never a pointer of Go's.
package main
