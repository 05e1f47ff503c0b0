module ringfence.dev/ech

go 1.26.0
