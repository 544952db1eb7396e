/*
 * python3.dll: what wheels of the stable ABI are linked to. It only forwards: its exports are made from those of
 * python311.dll, see build.py.
 */
int __stdcall DllMain(void *module, unsigned reason, void *reserved)
{
    (void)module;
    (void)reason;
    (void)reserved;
    return 1;
}
