module github.com/apache/skywalking-banyandb/ebpf/runservice

go 1.25.3
