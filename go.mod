module github.com/apache/skywalking-banyandb/ebpf

go 1.25.3

require (
	github.com/cilium/ebpf v0.22.0
	github.com/stretchr/testify v1.11.1
	golang.org/x/sys v0.43.0
)

require (
	github.com/apache/skywalking-banyandb v0.10.3
	github.com/davecgh/go-spew v1.1.2-0.20180830191138-d8f796af33cc // indirect
	github.com/pmezard/go-difflib v1.0.1-0.20181226105442-5d4384ee4fb2 // indirect
	gopkg.in/yaml.v3 v3.0.1 // indirect
)
