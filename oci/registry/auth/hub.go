package auth

// Docker Hub has several names: HubHost is the one that users write, HubEndpoint the host that
// requests go to, hubKey the one that credential files and helpers know it by.
const (
	HubHost     = "docker.io"
	HubEndpoint = "registry-1.docker.io"
	hubKey      = "https://index.docker.io/v1/"
)
