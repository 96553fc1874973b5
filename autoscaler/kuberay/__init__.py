"""KubeRay: the clusters behind each RayService, what the controller may change of them, and how."""
