module gohook

go 1.19
