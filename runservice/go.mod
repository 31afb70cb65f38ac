module github.com/apache/skywalking-banyandb/ebpf/runservice

go 1.25.3

require (
	github.com/apache/skywalking-banyandb v0.10.3
	github.com/apache/skywalking-banyandb/ebpf v0.0.0
	github.com/apache/skywalking-banyandb/ebpf/meterbridge v0.0.0
	github.com/apache/skywalking-banyandb/ebpf/observer/api v0.0.0
	github.com/rs/zerolog v1.35.0
	github.com/spf13/cobra v1.10.2
	github.com/spf13/pflag v1.0.10
	github.com/stretchr/testify v1.11.1
)

replace (
	github.com/apache/skywalking-banyandb/ebpf => ../
	github.com/apache/skywalking-banyandb/ebpf/meterbridge => ../meterbridge
	github.com/apache/skywalking-banyandb/ebpf/observer/api => ../observer/api
)
