/*
 * What the driver's stand-in and those who play with it have in common. tests/windows/inside/bench.py has the same
 * figures for Python.
 */
#ifndef TAP_BED_H
#define TAP_BED_H

/* The one adapter that there is; windows.reg tells the registry about it. */
#define TAP_GUID L"{5AFE1A40-0001-4000-8000-534F46544C41}"
#define TAP_GUID_FIRST_BYTES 0x5A, 0xFE, 0x1A, 0x40
#define TAP_INSTANCE_ID L"ROOT\\NET\\0000"
#define TAP_CLASS_KEY                                                                                                 \
    L"SYSTEM\\CurrentControlSet\\Control\\Class\\{4D36E972-E325-11CE-BFC1-08002BE10318}\\0007"

/*
 * Its three devices: for the application, as the real driver has it; for a test that plays the Windows network stack
 * behind the adapter; and for a test that plays with the adapter itself.
 */
#define TAP_DEVICE TAP_GUID L".tap"
#define TAP_STACK_DEVICE TAP_GUID L".tapos"
#define TAP_BENCH_DEVICE TAP_GUID L".bench"

#define TAP_IOCTL(function) (0x22u << 16 | (function) << 2) /* METHOD_BUFFERED, FILE_ANY_ACCESS */

/* TAP-Windows6, tap-windows.h */
#define TAP_GET_MAC TAP_IOCTL(1)
#define TAP_GET_VERSION TAP_IOCTL(2)
#define TAP_GET_MTU TAP_IOCTL(3)
#define TAP_SET_MEDIA_STATUS TAP_IOCTL(6)

/* Of the bench alone, and only on its device. */
#define BENCH_REMOVE TAP_IOCTL(0x801)   /* pull the adapter out, open or not */
#define BENCH_INSERT TAP_IOCTL(0x802)   /* put it back in; it initialises, and reads its MAC from the registry */
#define BENCH_STATE TAP_IOCTL(0x803)    /* out: struct bench_state */
#define BENCH_VERSION TAP_IOCTL(0x804)  /* in: two u32, what GET_VERSION is to say */

struct bench_state {
    unsigned int inserted;
    unsigned int opened;      /* by an application */
    unsigned int media;       /* whether the medium is connected */
    unsigned int reading;     /* reads of the application that wait for a frame */
    unsigned int dropped;     /* frames that found a queue full, or no medium, since the adapter was put in */
    unsigned char mac[8];     /* six bytes, and two of padding */
};

#endif
