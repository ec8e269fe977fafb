module ocikit

go 1.26.5
