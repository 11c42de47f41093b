// These files are built into the dmarcd of one test: its clock can be set. A file says
// by how many seconds it is ahead, in the eight bytes that a processor reads as a number.
// The monotonic clock goes on as it does when an administrator sets the other one.
package main

import (
	"os"
	"syscall"
	"unsafe"
)

// ahead points to what is added to the seconds of the clock.
var ahead unsafe.Pointer

// What Go asks for the time; it is the kernel's otherwise.
//
//go:linkname vdsoClockgettimeSym runtime.vdsoClockgettimeSym
var vdsoClockgettimeSym uintptr

// clockGettimeAt returns where the function is that Go is to ask.
func clockGettimeAt() uintptr

func init() {
	f, err := os.Open(os.Getenv("DMARCD_TEST_CLOCK"))
	if err != nil {
		panic(err)
	}
	defer f.Close()
	page, err := syscall.Mmap(int(f.Fd()), 0, 8, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		panic(err)
	}
	ahead = unsafe.Pointer(&page[0])
	vdsoClockgettimeSym = clockGettimeAt()
}
