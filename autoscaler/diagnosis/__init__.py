"""What `leadtime doctor` looks at: versions, Ray services, a policy inside Serve, Kubernetes. It reads only."""
