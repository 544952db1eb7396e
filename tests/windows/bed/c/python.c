/*
 * python.exe: the program that every Windows Python has, and the panda3d wheel lacks. All of it is in the DLL.
 */
#include <stdio.h>
#include <windows.h>

typedef int (*py_main)(int argc, wchar_t **argv);

int wmain(int argc, wchar_t **argv)
{
    HMODULE python = LoadLibraryW(L"python311.dll");
    py_main run = python ? (py_main)(void *)GetProcAddress(python, "Py_Main") : NULL;

    if (!run) {
        fprintf(stderr, "python311.dll cannot be loaded: error %lu\n", GetLastError());
        return 1;
    }
    return run(argc, argv);
}
