// placeholder replaced by the native build
