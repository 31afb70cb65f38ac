module github.com/apache/skywalking-banyandb/ebpf/integration

go 1.25.3

require (
	github.com/apache/skywalking-banyandb v0.10.3
	github.com/apache/skywalking-banyandb/ebpf/meterbridge v0.0.0
	github.com/apache/skywalking-banyandb/ebpf/observer/api v0.0.0
	github.com/apache/skywalking-banyandb/ebpf/runservice v0.0.0
	github.com/prometheus/client_model v0.6.2
	github.com/prometheus/common v0.67.5
	github.com/prometheus/procfs v0.20.1
	github.com/stretchr/testify v1.11.1
	google.golang.org/grpc v1.80.0
	google.golang.org/protobuf v1.36.11
)

replace (
	github.com/apache/skywalking-banyandb/ebpf => ../
	github.com/apache/skywalking-banyandb/ebpf/meterbridge => ../meterbridge
	github.com/apache/skywalking-banyandb/ebpf/observer/api => ../observer/api
	github.com/apache/skywalking-banyandb/ebpf/runservice => ../runservice
)
